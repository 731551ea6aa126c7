// Package securenotes reconciles SecureNotes: the keys in Vault, the child objects, the scheduled
// rotations, the retirement of old key versions, and the status.
//
// A pass runs the phases of [Reconciler.phases] in their order, all of them. Each phase observes
// and acts, and writes its results into the scope. The pure function [computeStatus] turns the
// results into the status; conditions.go has one function for each condition. The status is written
// once, if it changed. A settled object causes no write and no line in the log.
//
// The finalizer comes before the first phase. A suspended object is only observed. For a deleted
// object see [Reconciler.finalize]. Start reading at [Reconciler.Reconcile].
package securenotes
