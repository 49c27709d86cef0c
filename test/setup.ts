/**
 * Under CI every property is tried on the same inputs, so that a change is judged by what it changed. Elsewhere the inputs
 * are new in every run; a failure prints its seed.
 */
import fc from 'fast-check'

if (process.env.CI) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 20_261_124 })
