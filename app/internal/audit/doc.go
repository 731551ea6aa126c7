// Package audit writes a log of who did what, and verifies afterwards that it is unchanged.
//
// Each process writes a chain: one JSON object per line, numbered from 0, with the SHA-256 of the
// previous line. An edited, dropped or reordered line breaks the chain there. Every minute and
// every 1,000 lines, a checkpoint signs the chain with a key in Vault (Transit, Ed25519, RFC 8032)
// that the process can use and cannot read. The last line of an orderly shutdown is signed, too. So
// nobody who can write the log can replace the chain, and a chain without a signed end was cut off,
// or its process was killed.
//
// Nothing happens without a record: a line is written before the answer is sent, and a line with
// the intent before a change is committed. [Log.Write] fails at once while the output accepts no
// line.
//
// A line has the user (id, or a digest of the name that was tried), the address, the action, the
// outcome and the request's id. It never has content, passwords or tokens.
package audit
