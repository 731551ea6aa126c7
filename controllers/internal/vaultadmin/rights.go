package vaultadmin

import (
	"regexp"
	"strings"
)

// Rights are those that only some objects need.
type Rights struct {
	// Trim destroys versions of keys, and Shred whole keys and peppers. Database creates and
	// revokes database users.
	Trim, Shred, Database bool
}

var (
	shredRule    = regexp.MustCompile(`path "[^"]*/destroy/[^"]*/pepper"`)
	databaseRule = regexp.MustCompile(`path "sys/leases/revoke-prefix/([^"]+)/creds/`)
)

// grantedBy returns the rights and the database mount in the rules of the operator's policy. The
// previous release allowed every operator to delete keys, so only the rule for peppers shows that
// shredding was allowed by a flag.
func grantedBy(rules string) (granted Rights, databaseMount string) {
	granted = Rights{Trim: strings.Contains(rules, `"min_available_version"`), Shred: shredRule.MatchString(rules)}
	if match := databaseRule.FindStringSubmatch(rules); match != nil {
		granted.Database, databaseMount = true, match[1]
	}
	return granted, databaseMount
}

// keepRights keeps the rights of an earlier run in the operator's policy, unless this run withdraws
// them.
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
