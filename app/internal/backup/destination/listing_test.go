package destination

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestListingIsBounded checks the errors of destinations with too much in them.
func TestListingIsBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file func(n int) string
		most int
		want string
	}{
		"backups": {func(n int) string { return manifestName(numberedID(n)) }, maxBackups, "delete the oldest"},
		// They must not stop the next backup.
		"files without a manifest": {func(n int) string { return archiveName(numberedID(n)) }, maxNames, "that have no manifest"},
		"foreign names":            {func(n int) string { return fmt.Sprint(n) }, maxNames, "a prefix of their own"},
		// A server that repeats a name must not exhaust the memory.
		"one name": {func(int) string { return archiveName(firstID) }, maxNames, "a prefix of their own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l listing
			for n := range tc.most {
				if err := l.add(Entry{Name: tc.file(n)}); err != nil {
					t.Fatalf("%d of %d: %v", n, tc.most, err)
				}
			}
			limit, ok := errors.AsType[*limitError](l.add(Entry{Name: tc.file(tc.most)}))
			if !ok || !strings.Contains(limit.what, fmt.Sprint(tc.most)) || !strings.Contains(limit.next, tc.want) {
				t.Errorf("got %+v, want the limit %d and %q", limit, tc.most, tc.want)
			}
		})
	}
}

// TestNames checks which names belong to a backup.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		firstID + ".tar.zst.age":                        true,
		firstID + ".escrow.tar.zst.age":                 true,
		firstID + ".rekeyed.tar.zst.age":                true,
		firstID + ".rekeyed.escrow.tar.zst.age":         true,
		firstID + ".manifest.json":                      true,
		firstID + ".rekeyed.manifest.json":              false,
		firstID + ".escrow.rekeyed.tar.zst.age":         false,
		firstID + ".tar.zst.age.part":                   false,
		firstID + ".tar.zst.age\n":                      false,
		"x" + firstID + ".tar.zst.age":                  false,
		"a/" + firstID + ".tar.zst.age":                 false,
		"20261130T134200Z-ABCDEFGHIJKLMNOP.tar.zst.age": false,
		"20261130T134200Z-abcdefghijklmno1.tar.zst.age": false,
		"." + firstID + ".manifest.json":                false,
		temporaryName(firstID + ".manifest.json"):       false,
		".manifest.json":                                false,
		"":                                              false,
	} {
		if id, _, ok := split(name); ok != want || ok && id != firstID {
			t.Errorf("%q: got %q, %t, want %t", name, id, ok, want)
		}
	}
}

// TestTemporaryNames checks which names a sweep takes for those of temporary files.
func TestTemporaryNames(t *testing.T) {
	t.Parallel()
	suffix := "." + strings.Repeat("A2", 13)
	for name, want := range map[string]bool{
		temporaryName(manifestName(firstID)):      true,
		"." + manifestName(firstID) + suffix:      true,
		manifestName(firstID) + suffix:            false,
		"." + manifestName(firstID) + suffix[:20]: false,
		"." + manifestName(firstID):               false,
		"." + archiveName(firstID) + suffix:       false,
		manifestName(firstID):                     false,
		".notes.manifest.json" + suffix:           false,
		suffix:                                    false,
		"":                                        false,
	} {
		if got := isTemporary(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}

// TestLeftoversAreBounded checks that a sweep reads more names than a list, and has a limit too.
func TestLeftoversAreBounded(t *testing.T) {
	t.Parallel()
	const most = 3 * maxNames
	found := leftovers{olderThan: time.Now()}
	name := func(n int) string { return archiveName(numberedID(n)) }
	for n := range most {
		if err := found.add(Entry{Name: name(n)}); err != nil {
			t.Fatalf("%d of %d: %v", n, most, err)
		}
	}
	if limit, ok := errors.AsType[*limitError](found.add(Entry{Name: name(most)})); !ok || !strings.Contains(limit.next, "no manifest") {
		t.Errorf("got %+v, want the limit %d", limit, most)
	}
	removed := map[string]bool{}
	for name := range found.names() {
		removed[name] = true
	}
	if len(removed) != most || !removed[name(0)] || !removed[name(most-1)] {
		t.Errorf("%d files would be removed, want %d", len(removed), most)
	}
}
