// The npm package's portal, with a handler that counts; see __init__.py.
const readline = require('readline')
const { Portal } = require('@cryb/mesa')

const LULL = 3000
const [redis, namespace] = process.argv.slice(2)
const portal = new Portal(redis, { namespace })
const answer = object => process.stdout.write(JSON.stringify(object) + '\n')

let handled = 0
let news = () => {}
portal.on('message', () => { handled++; news() })

const next = () => new Promise(resolve => {
  const timer = setTimeout(() => resolve(false), LULL)
  news = () => { clearTimeout(timer); resolve(true) }
})

async function count ({ messages }) {
  while (handled < messages && await next());
  answer({ handled })
  handled = 0
}

// It does not report when it has joined; Redis answers a command on each of its connections after that.
Promise.all([portal.redis.ping(), portal.publisher.ping()]).then(() => setTimeout(() => answer({}), 200))
readline.createInterface({ input: process.stdin })
  .on('line', async line => {
    await count(JSON.parse(line))
    answer({})
  })
  .on('close', () => process.exit(0))
