// Genuine 1.x clients: node npm_clients.js URL ID...; every other one is a browser's.
//
// Writes what clients.py writes. An application of 1.x has to authenticate again by itself.
'use strict'
const fs = require('fs')
globalThis.WebSocket = require('ws')
const { Client } = require('@cryb/mesa')
const BrowserClient = require('mesa-js-client')

const [url, ...ids] = process.argv.slice(2)
const write = (...record) => fs.writeSync(1, JSON.stringify([Date.now() / 1000, ...record]) + '\n')

ids.forEach((id, place) => {
  const connected = () => {
    write('login', id)
    client.authenticate({ id }).then(() => write('ready', id))
  }
  const got = ({ data }) => write('got', id, ...data.label)
  const client = place % 2 ? new BrowserClient(url) : new Client(url)
  if (place % 2) Object.assign(client, { onConnected: connected, onMessage: got, onError: () => {}, onDisconnected: () => {} })
  else client.on('connected', connected).on('message', got).on('error', () => {})
})

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, error => write('ended', null, String((error && error.stack) || error)))
}
