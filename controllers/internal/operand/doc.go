// Package operand builds what the operator runs: the objects of one SecureNotes and the Jobs of its
// rotations. Every builder is a pure function from spec to object; no client, no clock. It is a
// package of its own because the Deployment and the Jobs share one shape of pod.
package operand
