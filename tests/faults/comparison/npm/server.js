// A server of 1.x: node server.js PORT REDIS_URL NAMESPACE REDELIVERY_SECONDS; see ../programs.py.
'use strict'
const { default: Mesa, Message } = require('@cryb/mesa')

const [port, redis, namespace, redelivery] = process.argv.slice(2)
const say = text => console.log(text)
const server = new Mesa({
  port: Number(port), redis, namespace, sync: { enabled: true, redeliveryInterval: Number(redelivery) * 1000 }
})
server.on('error', () => {})
server.on('connection', client => {
  client.authenticate(({ id, wait }, done) => {
    const accept = () => { done(null, { id, user: {} }); say(`accepted ${id}`) }
    wait ? setTimeout(accept, wait * 1000) : accept()
  })
  client.on('message', ({ data }) => {
    for (const [number, to] of data) server.send(new Message(0, number, 'NUMBER'), to || undefined)
    setTimeout(() => say('sent'), 200) // a send of 1.x cannot be awaited
  })
})
server.redis.ping().then(() => setTimeout(() => say('up'), 100)) // nor can its subscription
