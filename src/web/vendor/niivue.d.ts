/** vendor/niivue.js is the installed package's own bundle, which the server hands out; these are its types. */
export * from '@niivue/niivue'
