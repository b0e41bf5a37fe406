// The npm package's server, under the same orders as the others; see __init__.py.
const http = require('http')
const readline = require('readline')
const { default: Mesa, Message } = require('@cryb/mesa')

const [redis, , namespace = 'bench', portals] = process.argv.slice(2)
const listener = http.createServer()
const server = new Mesa({
  server: listener, redis, namespace, gracefullyExit: false, portal: { enabled: Boolean(portals) }
})

server.on('connection', client => client.authenticate((data, done) => done(null, { id: data.id, user: { id: data.id } })))

const turn = () => new Promise(setImmediate)

const orders = {
  async everybody({ messages, data, type, each = 1 }) {
    for (let i = 0; i < messages; i++) {
      server.send(new Message(0, data, type))
      if ((i + 1) % each === 0) await turn()
    }
  },
  async single({ messages, data, type, connections }) {
    for (let i = 0; i < messages; i++) {
      server.send(new Message(0, data, type), [String(i % connections)])
      await turn()
    }
  },
  async collect() {
    global.gc()
  }
}

const answer = object => process.stdout.write(JSON.stringify(object) + '\n')

listener.listen(0, '127.0.0.1', () => answer({ port: listener.address().port }))
readline.createInterface({ input: process.stdin })
  .on('line', async line => {
    const { order, ...details } = JSON.parse(line)
    await orders[order](details)
    answer({})
  })
  .on('close', () => process.exit(0))
