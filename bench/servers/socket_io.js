// Socket.IO's server: each client is in a room that has its id. The argument is the URL of a Redis, if any.
const http = require('http')
const readline = require('readline')
const { Server } = require('socket.io')
const { createAdapter } = require('@socket.io/redis-adapter')
const { createClient } = require('redis')

const [url] = process.argv.slice(2)
const answer = object => process.stdout.write(JSON.stringify(object) + '\n')
const turn = () => new Promise(setImmediate)

async function adapter() {
  const publisher = createClient({ url })
  const subscriber = publisher.duplicate()
  await Promise.all([publisher.connect(), subscriber.connect()])
  return createAdapter(publisher, subscriber)
}

const orders = io => ({
  async everybody({ messages, data, type, each = 1 }) {
    for (let i = 0; i < messages; i++) {
      io.emit(type, data)
      if ((i + 1) % each === 0) await turn()
    }
  }
})

async function main() {
  const listener = http.createServer()
  const io = new Server(listener, {
    transports: ['websocket'],
    pingInterval: 3600000,
    ...(url ? { adapter: await adapter() } : {})
  })
  io.on('connection', socket => socket.join(socket.handshake.auth.id))
  listener.listen(0, '127.0.0.1', () => answer({ port: listener.address().port }))
  const obey = orders(io)
  readline.createInterface({ input: process.stdin })
    .on('line', async line => {
      const { order, ...details } = JSON.parse(line)
      await obey[order](details)
      answer({})
    })
    .on('close', () => process.exit(0))
}

main()
