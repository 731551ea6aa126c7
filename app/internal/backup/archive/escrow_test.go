package archive_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestEscrowIsRefused checks escrow files that do not have exactly the keys of the archive and the
// peppers, although the manifest describes them.
func TestEscrowIsRefused(t *testing.T) {
	key := func(owner, id string, n int) row { return row{0, []any{owner, id, ownerKey(1)[:n]}} }
	for name, tc := range map[string]struct {
		escrow  func(rows []row) []row
		archive func(rows []row) []row
		change  func(c *archive.Contents)
		want    string
	}{
		"a key missing":            {escrow: func(r []row) []row { return slices.Delete(r, 2, 3) }, want: `it has the key "key-3" of owner "user-2" where the archive has the key "key-2"`},
		"the last key missing":     {escrow: func(r []row) []row { return slices.Delete(r, 3, 4) }, want: `it lacks the key "key-3" of owner "user-2", which the archive has`},
		"an extra key":             {escrow: func(r []row) []row { return slices.Insert(r, 4, key("user-3", "key-4", 32)) }, want: `it has a key of owner "user-3" that the archive lacks`},
		"a key twice":              {escrow: func(r []row) []row { return slices.Insert(r, 2, r[1]) }, want: `it has the key "key-1" of owner "user-1" where the archive has the key "key-2"`},
		"keys in another order":    {escrow: func(r []row) []row { r[2], r[3] = r[3], r[2]; return r }, want: `it has the key "key-3"`},
		"the key of another":       {escrow: func(r []row) []row { r[1] = key("user-2", "key-1", 32); return r }, want: `it has the key "key-1" of owner "user-2"`},
		"a short key":              {escrow: func(r []row) []row { r[1] = key("user-1", "key-1", 31); return r }, want: "has 31 bytes instead of 32"},
		"a key that is NULL":       {escrow: func(r []row) []row { r[1] = row{0, []any{"user-1", "key-1", nil}}; return r }, want: "has 0 bytes instead of 32"},
		"no canary":                {escrow: func(r []row) []row { return r[1:] }, want: `where the archive has the key "canary-key" of owner "canary"`},
		"another canary":           {escrow: func(r []row) []row { r[0] = key(archive.CanaryOwner, "other", 32); return r }, want: `where the archive has the key "canary-key"`},
		"no rows":                  {escrow: func([]row) []row { return nil }, want: `it lacks the key "canary-key"`},
		"a pepper missing":         {escrow: func(r []row) []row { return slices.Delete(r, 4, 5) }, want: `it lacks the pepper "pepper-a", which passwords need`},
		"the current one missing":  {escrow: func(r []row) []row { return r[:5] }, want: `it lacks the pepper "pepper-b", which passwords need`},
		"peppers in another order": {escrow: func(r []row) []row { r[4], r[5] = r[5], r[4]; return r }, want: `it has the pepper "pepper-a", which is not in ascending order`},
		"more peppers than the limit": {escrow: func(r []row) []row {
			for i := range 127 {
				r = append(r, row{1, []any{fmt.Sprintf("pepper-c%03d", i), []byte("c")}})
			}
			return r
		}, want: "more than the limit of 128"},
		"a pepper twice":     {escrow: func(r []row) []row { return slices.Insert(r, 4, r[4]) }, want: `it has the pepper "pepper-a"`},
		"an empty pepper":    {escrow: func(r []row) []row { r[4] = row{1, []any{"pepper-a", []byte{}}}; return r }, want: `the pepper "pepper-a" has 0 bytes`},
		"a pepper of 2 KiB":  {escrow: func(r []row) []row { r[4] = row{1, []any{"pepper-a", make([]byte, 2<<10)}}; return r }, want: "and the limit is 1024"},
		"another deployment": {change: func(c *archive.Contents) { c.DeploymentID = "other" }, want: "it does not belong to the archive of the same backup"},
		"another schema":     {change: func(c *archive.Contents) { c.Schema = 8 }, want: "it does not belong to the archive of the same backup"},
		"archive out of order": {archive: func(r []row) []row { r[3], r[4] = r[4], r[3]; return r },
			escrow: func(r []row) []row { r[2], r[3] = r[3], r[2]; return r }, want: `the archive does not have the keys of owner "user-2" in ascending order`},
		"archive with a key twice": {archive: func(r []row) []row { r[4] = r[3]; return r },
			escrow: func(r []row) []row { r[3] = r[2]; return r }, want: "or has one twice"},
		"archive without an id": {archive: func(r []row) []row { r[2] = row{1, []any{"user-1", nil, "wrapped"}}; return r }, want: "a row of owner_keys has no owner or no id"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackup(t)
			rows, keys, c := sampleRows(), sampleEscrowRows(), escrowContents(b.id)
			if tc.archive != nil {
				rows = tc.archive(rows)
			}
			if tc.escrow != nil {
				keys = tc.escrow(keys)
			}
			if tc.change != nil {
				tc.change(&c)
			}
			main, written := write(t, b.identity.Recipient(), archiveContents(b.id), rows)
			escrow, writtenKeys := write(t, b.escrow.Recipient(), c, keys)
			b.files[archive.Name(b.id, archive.KindArchive, false)], b.manifest.Archive = main, written.File
			b.files[archive.Name(b.id, archive.KindEscrow, false)], b.manifest.Escrow = escrow, &writtenKeys.File
			b.sign(t)
			_, _, err := b.verify(t, b.identities()...)
			refused(t, err, archive.ErrDamaged, tc.want)
		})
	}
}
