// Package trustedjob creates Jobs and decides which Job is believed when it completes.
//
// Anyone who may create Jobs in a namespace can create one with the expected name, labels and owner
// reference that completes and does nothing. So the caller records the [Identity] of each Job in a
// status right after it was created: its UID, and a digest of its spec. Start with [Expected], then
// [Expected.Create] and [Expected.Read].
//
// Only the Job of the recorded UID is believed, whatever image a newer operator would use. Its spec
// may have been patched since to need no pod. So a complete Job is believed only if it still has
// the recorded spec and a pod of each index has succeeded. A Job that an earlier release recorded
// has no digest; there the pods alone count.
//
// If the operator died before it recorded the identity, the Job counts only if its spec is, but for
// the API server's defaults, the one that the operator would create. Then its identity is recorded.
// The caller clears the record of a Job that was deleted before it completed, and then creates the
// Job again. Any other Job of that name is foreign.
//
// What remains: anyone who can create pods in the namespace can create one that the Job controller
// counts as the Job's. The namespace is the boundary of trust.
package trustedjob
