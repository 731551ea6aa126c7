package config

import "cmp"

// Defaults that the CRD documents, and that the service applies.
const (
	DefaultFailedLogins = 5
	DefaultRequests     = 1200
	// DefaultRegistrations lets an office behind one address register in a day.
	DefaultRegistrations = 500
	DefaultAccounts      = 100_000
	DefaultNotes         = 100_000
	DefaultNoteBytes     = 512 << 20
)

// Lowest values that are allowed. The operator uses them where a spec is silent.
const (
	MinBcryptCost     = 12
	MinPasswordLength = 8
)

// MaxNotesPerSecond is the highest limit that a re-encryption can have.
const MaxNotesPerSecond = 1_000_000

// defaultConnections bounds the connection pool of one process.
const defaultConnections = 16

func (c *Config) setDefaults() {
	c.Listen = cmp.Or(c.Listen, listenOn(PortHTTPS))
	c.MetricsListen = cmp.Or(c.MetricsListen, listenOn(PortMetrics))
	c.Log.Level = cmp.Or(c.Log.Level, "info")
	if p := c.Database.Postgres; p != nil {
		p.MaxConnections = cmp.Or(p.MaxConnections, defaultConnections)
	}
	limits := &c.RateLimits
	limits.FailedLoginsPerMinute = cmp.Or(limits.FailedLoginsPerMinute, DefaultFailedLogins)
	limits.RequestsPerMinute = cmp.Or(limits.RequestsPerMinute, DefaultRequests)
	limits.RegistrationsPerDay = cmp.Or(limits.RegistrationsPerDay, DefaultRegistrations)
	q := &c.Quotas
	q.Accounts = cmp.Or(q.Accounts, DefaultAccounts)
	q.Notes = cmp.Or(q.Notes, DefaultNotes)
	q.Bytes = cmp.Or(q.Bytes, DefaultNoteBytes)
}

// omitDefaults removes the defaults of fields that earlier releases do not have. The file does not
// change then, and an upgrade of the operator restarts no pod because of it.
func (c *Config) omitDefaults() {
	omit(&c.RateLimits.RegistrationsPerDay, DefaultRegistrations)
	omit(&c.Quotas.Accounts, DefaultAccounts)
	omit(&c.Quotas.Notes, DefaultNotes)
	omit(&c.Quotas.Bytes, DefaultNoteBytes)
}

func omit[T comparable](field *T, unset T) {
	if *field == unset {
		var zero T
		*field = zero
	}
}
