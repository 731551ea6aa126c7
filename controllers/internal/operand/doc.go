// Package operand builds the objects of one SecureNotes and the Jobs of its rotations. Every
// builder is a pure function from spec to object, without a client or a clock. Start at
// [Deployment] and [ReencryptJob]. Ports, paths and arguments come from package config, which
// the service parses them with.
package operand
