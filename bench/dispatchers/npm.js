// The npm package's dispatcher, under the same orders as the others; see __init__.py.
const net = require('net')
const readline = require('readline')
const { Dispatcher, Message } = require('@cryb/mesa')

const AT_ONCE = 64
const [redis, target] = process.argv.slice(2)
const dispatcher = new Dispatcher(redis, { namespace: 'bench' })
const answer = object => process.stdout.write(JSON.stringify(object) + '\n')

// Its dispatch cannot be awaited; a command on the same connection is answered after it.
const done = () => dispatcher.publisher.ping()

async function dispatch({ messages, data, type }) {
  for (let start = 0; start < messages; start += AT_ONCE) {
    const count = Math.min(AT_ONCE, messages - start)
    for (let i = 0; i < count; i++) dispatcher.dispatch(new Message(0, data, type), [target])
    await done()
  }
}

let data
const ticks = net.createServer(socket => {
  socket.setNoDelay(true)
  readline.createInterface({ input: socket })
    .on('line', at => dispatcher.dispatch(new Message(0, { ...data, at }, 'NEW_MESSAGE'), [target]))
})
ticks.listen(0, '127.0.0.1', () => answer({ port: ticks.address().port }))

readline.createInterface({ input: process.stdin })
  .on('line', async line => {
    const { order, ...details } = JSON.parse(line)
    data = details.data
    await dispatch(details)
    answer({})
  })
  .on('close', () => process.exit(0))
