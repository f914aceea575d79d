/**
 * graphql-js, imported by the file that `require('graphql')` finds. The package also has an ES build under its
 * `module` field, which Vite prefers and Node never loads; with both in one process, Apollo and graphql-ws refuse
 * our schema as one "from another realm". Everything else imports graphql-js from here.
 */
export * from 'graphql/index.js';
