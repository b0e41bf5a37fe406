// Runs chosen cases of the interop harness: node run_cases.js HARNESS CASE...
// Prints what the harness prints, and `left NAME` for every case that was not chosen.
'use strict'
const path = require('path')

const [harness, ...chosen] = process.argv.splice(2) // the harness would take them for its filter
const lib = require(path.join(harness, 'lib.js'))
const define = lib.test

// Right before a case, the harness checks that it can connect. The end of that connection may be reported to a
// portal that the case begins with, unless the server gets a moment to notice.
const MOMENT = 50
const after = body => async () => { await lib.sleep(MOMENT); return body() }

lib.test = (name, body, ...rest) => chosen.includes(name) ? define(name, after(body), ...rest) : console.log(`left ${name}`)
require(path.join(harness, 'cases-public.js'))
