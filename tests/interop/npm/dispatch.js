// A genuine dispatcher with sync: sends numbers, one message after the other, prints that, and ends.
'use strict'
const { Dispatcher, Message } = require('@cryb/mesa')
const { redis, namespace, ids, numbers } = JSON.parse(process.argv[2])

const dispatcher = new Dispatcher(redis, { namespace, sync: { enabled: true } })
const next = () => {
  if (numbers.length === 0) return process.stdout.write(JSON.stringify({ done: true }) + '\n', () => process.exit(0))
  dispatcher.dispatch(new Message(0, numbers.shift(), 'M'), ids)
  setTimeout(next, 50) // what it does cannot be awaited
}
next()
