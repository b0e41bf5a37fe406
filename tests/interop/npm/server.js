// A genuine server that accepts every client with an id; prints its port.
'use strict'
const http = require('http')
const { default: Mesa } = require('@cryb/mesa')
const { redis, namespace, ...options } = JSON.parse(process.argv[2])

console.log = () => {} // the package is talkative
const listening = http.createServer()
const server = new Mesa({ ...options, server: listening, redis, namespace, sync: { enabled: true }, portal: { enabled: true } })
server.on('error', () => {})
server.on('connection', client => client.authenticate(({ id }, done) => done(null, { id, user: { id } })))
// The subscriptions are there when one that follows them is.
server.subscriber.subscribe('ready', () => server.redis.ping(() => listening.listen(0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ port: listening.address().port }) + '\n')
})))
