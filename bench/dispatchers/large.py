"""Our blocking dispatcher, with messages of any size to any number of ids, for some time.

Arguments: the URL of a Redis; a namespace.
"""

import json
import sys
import time

from mesa_ws import Dispatcher, MesaError, Message

url, namespace = sys.argv[1:]


def main() -> None:
    with Dispatcher(url, namespace=namespace) as dispatcher:
        print(json.dumps({"port": 0}), flush=True)
        for line in sys.stdin:
            details = json.loads(line)
            message = Message(0, "x" * details["size"], "LARGE", sync=details["sync"])
            ids = [str(number) for number in range(details["ids"])]
            answer = {"dispatches": 0, "error": ""}
            until = time.monotonic() + details["seconds"]
            while not answer["error"] and (time.monotonic() < until or not answer["dispatches"]):
                try:
                    dispatcher.dispatch(message, ids)
                except MesaError as error:
                    answer["error"] = f"{type(error).__name__}: {error}"
                else:
                    answer["dispatches"] += 1
            print(json.dumps({"dispatches": answer["dispatches"], "failure": answer["error"]}), flush=True)


main()
