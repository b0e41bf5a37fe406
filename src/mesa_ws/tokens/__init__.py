"""Authentication by JSON Web Tokens (RFC 7519), for `mesa serve` and for applications.

It needs `pip install 'mesa-ws[jwt]'`, so `mesa_ws` does not import it.
"""

from .authenticator import LEEWAY, TokenAuthenticator
from .keys import JwksKeys, Keys, PublicKeys, Secrets

__all__ = ["LEEWAY", "JwksKeys", "Keys", "PublicKeys", "Secrets", "TokenAuthenticator"]
