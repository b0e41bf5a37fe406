// A genuine portal: prints its id, and every message that it receives.
'use strict'
const { Portal } = require('@cryb/mesa')
const { redis, namespace } = JSON.parse(process.argv[2])

console.log = () => {} // the package is talkative
const print = line => process.stdout.write(JSON.stringify(line) + '\n')
const portal = new Portal(redis, { namespace })
portal.on('message', ({ data, type }, clientId) => print({ type, data, clientId }))
// It is announced, and listens, when these are answered behind what it did.
portal.redis.ping(() => portal.publisher.ping(() => portal.subscriber.subscribe(`portal_${namespace}`, () => print({ id: portal.id }))))
