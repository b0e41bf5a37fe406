// Socket.IO's emitter, to the room of one client. The arguments are the URL of a Redis, and the recipient.
const net = require('net')
const readline = require('readline')
const { Emitter } = require('@socket.io/redis-emitter')
const { createClient } = require('redis')

const AT_ONCE = 64
const [url, target] = process.argv.slice(2)
const answer = object => process.stdout.write(JSON.stringify(object) + '\n')

async function main() {
  const client = createClient({ url })
  await client.connect()
  const emitter = new Emitter(client)

  // An emission cannot be awaited; a command on the same connection is answered after it.
  async function dispatch({ messages, data, type }) {
    for (let start = 0; start < messages; start += AT_ONCE) {
      const count = Math.min(AT_ONCE, messages - start)
      for (let i = 0; i < count; i++) emitter.to(target).emit(type, data)
      await client.ping()
    }
  }

  let data
  const ticks = net.createServer(socket => {
    socket.setNoDelay(true)
    readline.createInterface({ input: socket })
      .on('line', at => emitter.to(target).emit('NEW_MESSAGE', { ...data, at }))
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
}

main()
