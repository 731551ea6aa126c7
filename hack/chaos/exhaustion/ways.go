// Package exhaustion is the ways in which clients try to exhaust a replica of the service: each
// opens as many connections as it has use for, from several addresses and with several accounts,
// and makes the replica hold as much for them as it can.
//
// The clients run in a process of their own, the command crowd, so that what they cost is not
// measured as if the service did. [Ways] is the list; TestExhaustion in hack/chaos tries each.
package exhaustion

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Way is one way of exhausting a replica.
type Way struct {
	Name string
	// attack runs until ctx ends, whatever the replica does.
	attack func(ctx context.Context, t *crowd)
}

// Ways are all ways that are known. Together they open more connections than a replica can hold.
var Ways = []Way{
	{"frames of 1 MiB, unfinished", largeFrames(1<<20, 400)},
	{"frames of 16 KiB, unfinished", largeFrames(16<<10, 2000)},
	{"answers to HTTP/2 windows of 0", closedWindows},
	{"slow bodies", slowBodies},
	{"slow headers", slowHeaders},
	{"idle connections", idleConnections},
	{"unfinished TLS handshakes", unfinishedHandshakes},
	{"large notes, read slowly", readSlowly(300, func(a Accounts, i int) (path, token string) {
		user := a.Writers[i%len(a.Writers)]
		return "/api/notes/" + user.Note, user.Token
	})},
	{"exports, read slowly", readSlowly(100, func(a Accounts, i int) (path, token string) {
		return "/api/account/export", a.Writers[i%len(a.Writers)].Token
	})},
	{"lists, read slowly", readSlowly(1500, func(a Accounts, i int) (path, token string) {
		return listPath, a.Listers[i%len(a.Listers)].Token
	})},
	{"logins and registrations", passwords},
	{"rapid resets, pings and settings", frameFloods},
	{"connections for probes", probeConnections},
}

// listPath is a page of the most notes.
const listPath = "/api/notes?limit=200"

// Accounts are those of the attackers.
type Accounts struct {
	// Writers have notes of the largest size, and Listers a full page of notes.
	Writers, Listers []Account
	// EndedToken is of a session that has been logged out.
	EndedToken string
}

// Account is a user who has logged in.
type Account struct {
	Name, Password, Token string
	// Note is the id of one of its notes.
	Note string
}

// Target is the replica to exhaust.
type Target struct {
	// Address is the host:port of the API, and Probes that of probes and metrics.
	Address, Probes string
	// CAFile verifies the certificate of the API.
	CAFile   string
	Accounts Accounts
}

// Attack tries the ways with the names given, all at once, until ctx ends.
func Attack(ctx context.Context, target Target, names []string) error {
	var done sync.WaitGroup
	defer done.Wait()
	for _, name := range names {
		i := slices.IndexFunc(Ways, func(w Way) bool { return w.Name == name })
		if i < 0 {
			return fmt.Errorf("no way is called %q", name)
		}
		c, err := newCrowd(target, len(names))
		if err != nil {
			return err
		}
		done.Go(func() { Ways[i].attack(ctx, c) })
	}
	return nil
}
