package vaultadmin

import (
	"regexp"
	"strings"
)

// Rights name what only some objects need.
type Rights struct {
	// Trim destroys versions of keys, Shred whole keys and peppers; Database makes and revokes
	// database logins.
	Trim, Shred, Database bool
}

var (
	shredRule    = regexp.MustCompile(`path "[^"]*/destroy/[^"]*/pepper"`)
	databaseRule = regexp.MustCompile(`path "sys/leases/revoke-prefix/([^"]+)/creds/`)
)

// grantedBy reads the rights from the operator's policy, and the mount of database logins. The
// previous release let every operator delete keys: only the rule for peppers says that this was
// asked for.
func grantedBy(rules string) (granted Rights, databaseMount string) {
	granted = Rights{Trim: strings.Contains(rules, `"min_available_version"`), Shred: shredRule.MatchString(rules)}
	if match := databaseRule.FindStringSubmatch(rules); match != nil {
		granted.Database, databaseMount = true, match[1]
	}
	return granted, databaseMount
}

// keepRights keeps what an earlier run granted in the operator's policy, unless this one withdraws
// it.
func (r *setupRun) keepRights(rules string) {
	granted, databaseMount := grantedBy(rules)
	keep := func(right *bool, granted, withdrawn bool, flag string) {
		if granted && !withdrawn && !*right {
			*right = true
			r.say("--%s: kept from an earlier run; --%s=false takes the right away", flag, flag)
		}
	}
	keep(&r.AllowTrim, granted.Trim, r.Withdraw.Trim, "allow-trim")
	keep(&r.AllowShred, granted.Shred, r.Withdraw.Shred, "allow-shred")
	if granted.Database && r.DatabaseMount == "" && !r.Withdraw.Database {
		r.DatabaseMount = databaseMount
		r.say("--database-mount %s: kept from an earlier run; --database-mount= takes the right away", databaseMount)
	}
}
