// Package audit writes who did what, and shows afterwards that nobody has changed it.
//
// Each process writes a chain: one JSON object a line, numbered from 0, each with the SHA-256 of the
// line before. An edited, dropped or reordered line breaks the chain at that line. A checkpoint, every
// minute and every 1,000 lines while there is something new, signs the chain so far with a key that is
// in Vault (Transit, Ed25519, RFC 8032) and that the process can use but not read; the last line of a
// process that ends in order is signed too. Whoever can write the log can thus not make a new chain in
// the old one's place, and a chain without a signed end has been cut off, or its process was killed.
//
// What cannot be recorded must not happen: a line is written before the answer goes out, and a line
// of intent before a change is committed. [Log.Write] returns an error at once while the output
// takes no line.
//
// A line holds who (user id, or a digest of the name that was tried), from where, what, with which
// outcome, and the request's id: never content, passwords or tokens.
package audit
