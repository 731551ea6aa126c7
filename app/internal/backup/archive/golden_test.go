package archive_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// update writes a golden backup for a new format. The one of an earlier format must never change.
var update = flag.Bool("update", false, "write the golden backup of this format again")

// golden is a directory with a backup of format 1, its identities, and the public keys that verify
// it.
const golden = "testdata/format-1"

// directory has the files of a backup.
type directory string

func (d directory) read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(string(d), name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// goldenID is the id of the golden backup.
const goldenID = "20261130T134200Z-goldengoldengold"

func writeGolden(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	classic := newIdentity(t)
	_, rows := hostile()
	table, _ := hostile()
	c := archiveContents(goldenID)
	c.Tables = append(c.Tables, table)
	all := sampleRows()
	for _, r := range rows[:len(rows)-1] { // without the large one
		all = append(all, row{len(tables), r.values})
	}
	main, written := write(t, classic.Recipient(), c, all)
	escrow, writtenKeys := write(t, hybrid.Recipient(), escrowContents(goldenID), sampleEscrowRows())
	raw := sealed(t, current(), sampleManifest(goldenID, written, &writtenKeys.File))
	keys := `{"key":"` + backupKey + `","versions":[{"version":1,"publicKey":"` + base64Text(newSigner(1, 1).public()) + `","since":"2026-11-28T13:42:00Z","until":"2026-11-30T12:42:00Z"},` +
		`{"version":2,"publicKey":"` + base64Text(current().public()) + `","since":"2026-11-30T12:42:00Z"}]}` + "\n"
	for name, content := range map[string][]byte{
		archive.Name(goldenID, archive.KindArchive, false): main, archive.Name(goldenID, archive.KindEscrow, false): escrow, archive.ManifestName(goldenID): raw,
		"identity.txt":     []byte("# public key: " + classic.Recipient().String() + "\n" + classic.String() + "\n"),
		"escrow.txt":       []byte("# public key: " + hybrid.Recipient().String() + "\n" + hybrid.String() + "\n"),
		"public-keys.json": []byte(keys),
	} {
		if err := os.MkdirAll(golden, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(golden, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden reads a backup that an earlier release wrote. Every later release must.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	d := directory(golden)
	f := files{}
	for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
		name := archive.Name(goldenID, kind, false)
		f[name] = d.read(t, name)
	}
	var identities []age.Identity
	for _, name := range []string{"identity.txt", "escrow.txt"} {
		found, err := archive.ReadIdentities(filepath.Join(golden, name))
		if err != nil {
			t.Fatal(err)
		}
		identities = append(identities, found...)
	}
	keys, err := config.ParseBackupKeys(d.read(t, "public-keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := archive.ParseEnvelope(archive.ManifestName(goldenID), d.read(t, archive.ManifestName(goldenID)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Verify(keys, "")
	if err != nil {
		t.Fatal(err)
	}
	_, hostileRows := hostile()
	want := map[string][][]any{}
	for _, r := range sampleRows() {
		want[tables[r.table].Name] = append(want[tables[r.table].Name], r.values)
	}
	for _, r := range hostileRows[:len(hostileRows)-1] {
		want["hostile"] = append(want["hostile"], r.values)
	}
	got := map[string][][]any{}
	report, err := archive.Verify(t.Context(), archive.Check{Manifest: m, Files: f, Identities: identities, NeedEscrow: true, Row: func(table archive.Table, values []any, _ []byte) error {
		got[table.Name] = append(got[table.Name], cloneValues(values))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
	if !bytes.Equal(report.CanaryKey, ownerKey(9)) || report.CurrentPepper != "pepper-b" || len(report.Peppers) != 2 {
		t.Errorf("got report %+v", report)
	}
	if strings.Join(m.Peppers, " ") != "pepper-a" || m.Sequence != 4 || m.MasterKey.OldestVersion != 3 || !m.StartedAt.Equal(started) {
		t.Errorf("got manifest %+v", m)
	}
}
