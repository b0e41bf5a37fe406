// A genuine dispatcher with sync: sends numbers, one message after the other, prints that, and ends.
'use strict'
const { Dispatcher, Message } = require('@cryb/mesa')
const Redis = require('ioredis')
const { redis, namespace, ids, numbers, away } = JSON.parse(process.argv[2])

const dispatcher = new Dispatcher(redis, { namespace, sync: { enabled: true } })
const client = new Redis(redis)
const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds))

// What it does cannot be awaited, and of two that are stored at the same time it loses one.
const isStored = async number => {
  const list = JSON.parse(await client.hget(`undelivered_messages_${namespace}`, away) || '[]')
  return list.some(message => message.d === number)
}

const published = new Set()
const listen = async () => {
  const subscriber = new Redis(redis)
  subscriber.on('pmessage', (_, channel, text) => {
    const found = /"d":(\d+).*"t":"M"/.exec(text)
    if (found) published.add(Number(found[1]))
  })
  await subscriber.psubscribe('*')
}

const main = async () => {
  await listen()
  for (const number of numbers) {
    dispatcher.dispatch(new Message(0, number, 'M'), ids)
    while (away ? !await isStored(number) : !published.has(number)) await pause(10)
    if (away) await pause(50) // for those who are online
  }
  process.stdout.write(JSON.stringify({ done: true }) + '\n', () => process.exit(0))
}
main()
