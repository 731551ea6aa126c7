// Package chaos checks that no note is lost while parts of the system fail. Users write and read
// notes through several replicas, and the history of each note decides whether an answer can be
// true.
//
// Each note has one writer and any number of readers. The writer starts a write only after the
// previous one has ended, which keeps the check simple and exact: a read must return one of the
// writes between two limits. The first is the last write that was known to be stored when the read
// began. The second is the last write that had begun when the read ended.
//
// A write ends as acknowledged, as refused, which means that it never has an effect, or as unknown,
// if its answer was lost. After an unknown write the writer uses only operations that a late effect
// of that write cannot undo.
//
// In addition, TestExhaustion checks that clients cannot exhaust a replica: see the package
// exhaustion below this one.
package chaos
