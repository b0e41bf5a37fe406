// A dispatcher of 1.x: node dispatcher.js REDIS_URL NAMESPACE; see ../programs.py.
'use strict'
const { Dispatcher, Message } = require('@cryb/mesa')

const [redis, namespace] = process.argv.slice(2)
const dispatcher = new Dispatcher(redis, { namespace, sync: { enabled: true } })
require('readline').createInterface({ input: process.stdin })
  .on('line', line => {
    for (const [number, to] of JSON.parse(line)) dispatcher.dispatch(new Message(0, number, 'NUMBER'), to || undefined)
    setTimeout(() => console.log('done'), 400) // a dispatch of 1.x cannot be awaited
  })
  .on('close', () => process.exit())
Promise.all([dispatcher.redis.ping(), dispatcher.publisher.ping()]).then(() => console.log('up'))
