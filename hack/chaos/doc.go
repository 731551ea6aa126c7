// Package chaos shows that nothing is lost while everything fails: users write and read through several
// replicas, and each note's history decides whether an answer can be true.
//
// Each note has one writer, who begins a write only when the one before has ended, and any number of readers.
// That keeps the check simple and exact: a read may give any write from the last one that was known to be in
// place when the read began to the last one that had begun when it ended, and no other. A write ends as
// acknowledged, as refused, which means that it has no effect ever, or as unknown, when its answer was lost;
// after an unknown write the writer goes on only in ways that no late effect of it can undo.
//
// Beside that, TestExhaustion shows that clients cannot exhaust a replica; see the package
// exhaustion below this one.
package chaos
