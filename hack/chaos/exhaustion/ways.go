// Package exhaustion has the attacks with which clients try to exhaust a replica of the service.
// Each attack opens as many connections as it needs, from several addresses and with several
// accounts, and makes the replica use as much memory for them as possible.
//
// The clients run in a separate process, the command crowd, so that their own cost is not measured
// as that of the service. [Ways] lists the attacks; TestExhaustion in hack/chaos runs each.
package exhaustion

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Way is one attack that tries to exhaust a replica.
type Way struct {
	Name string
	// attack runs until ctx ends, whatever the replica answers.
	attack func(ctx context.Context, t *crowd)
}

// Ways are all known attacks. Together they open more connections than a replica can hold.
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

// listPath requests a page of the maximum size.
const listPath = "/api/notes?limit=200"

// Accounts are the accounts of the attackers.
type Accounts struct {
	// Writers have notes of the maximum size, and Listers a full page of notes.
	Writers, Listers []Account
	// EndedToken is the token of a session that has ended.
	EndedToken string
}

// Account is a user who has logged in.
type Account struct {
	Name, Password, Token string
	// Note is the id of one of the user's notes.
	Note string
}

// Target is the replica to attack.
type Target struct {
	// Address is the host:port of the API, and Probes that of probes and metrics.
	Address, Probes string
	// CAFile verifies the certificate of the API.
	CAFile   string
	Accounts Accounts
}

// Attack runs the named attacks, all at once, until ctx ends.
func Attack(ctx context.Context, target Target, names []string) error {
	var done sync.WaitGroup
	defer done.Wait()
	for _, name := range names {
		i := slices.IndexFunc(Ways, func(w Way) bool { return w.Name == name })
		if i < 0 {
			return fmt.Errorf("there is no attack named %q", name)
		}
		c, err := newCrowd(target, len(names))
		if err != nil {
			return err
		}
		done.Go(func() { Ways[i].attack(ctx, c) })
	}
	return nil
}
