package archive_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// rowsEqual compares rows. cmp would compare []byte byte by byte, which is slow.
var rowsEqual = cmp.Options{cmp.AllowUnexported(row{}), cmp.Comparer(bytes.Equal)}

// hostile is a table, and rows whose values are hard to write.
func hostile() (archive.Table, []row) {
	table := archive.Table{Name: "hostile", Columns: []archive.Column{{Name: "a", Type: archive.Text}, {Name: "n", Type: archive.Integer}, {Name: "b", Type: archive.Bytes}, {Name: "a2", Type: archive.Text}}}
	rows := []row{
		{0, []any{nil, nil, nil, nil}},
		{0, []any{"", int64(0), []byte{}, ""}},
		{0, []any{nil, int64(math.MinInt64), nil, "only some"}},
		{0, []any{"x", int64(math.MaxInt64), nil, nil}},
		{0, []any{"\x00\x01\x1f\x7f\b\f\n\r\t", int64(-1), []byte("\x00\xff\n\""), `"`}},
		{0, []any{`\`, nil, nil, `\\"\\`}},
		{0, []any{`","a2":"forged`, nil, nil, `"}` + "\n" + `{"a":"forged"}`}},
		{0, []any{"<script>&\u2028\u2029", nil, nil, "\U0010ffff\ufffd\ufeff"}},
		{0, []any{strings.Repeat("é", 500_000), nil, bytes.Repeat([]byte{0xfb}, 500_000), nil}},
	}
	return table, rows
}

// TestRoundTrip checks that every value is read as it was written.
func TestRoundTrip(t *testing.T) {
	table, rows := hostile()
	identity := newIdentity(t)
	c := archiveContents(archive.NewID(started))
	c.Tables = []archive.Table{table, {Name: "empty", Columns: table.Columns}, {Name: "last", Columns: table.Columns}}
	rows = append(rows, row{2, []any{"last", nil, nil, nil}})
	raw, written := write(t, identity.Recipient(), c, rows)
	got, err := readAll(raw, identity, written.File, archive.KindArchive, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, got, rowsEqual); diff != "" {
		t.Errorf("rows differ (-want +got):\n%s", diff)
	}
	if want := map[string]int64{"hostile": int64(len(rows) - 1), "empty": 0, "last": 1}; !cmp.Equal(written.Rows, want) {
		t.Errorf("got rows %v, want %v", written.Rows, want)
	}
}

// TestContentsAreKept checks the first member.
func TestContentsAreKept(t *testing.T) {
	identity := newIdentity(t)
	want := archiveContents(archive.NewID(started))
	raw, written := write(t, identity.Recipient(), want, nil)
	r, err := archive.Open(bytes.NewReader(raw), []age.Identity{identity}, written.File, archive.KindArchive, want.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want.Format = archive.Format
	if diff := cmp.Diff(want, r.Contents()); diff != "" {
		t.Errorf("contents differ (-want +got):\n%s", diff)
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got error %v at the end of an empty archive, want io.EOF", err)
	}
}

// TestManyParts checks rows of more than one member.
func TestManyParts(t *testing.T) {
	identity := newIdentity(t)
	c := archiveContents(archive.NewID(started))
	var rows []row
	for i := range 25 { // 25 MiB
		rows = append(rows, row{2, []any{"user-1", string(rune('a' + i)), int64(i), bytes.Repeat([]byte{byte(i)}, 768<<10), nil}})
	}
	raw, written := write(t, identity.Recipient(), c, rows)
	got, err := readAll(raw, identity, written.File, archive.KindArchive, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, got, rowsEqual); diff != "" {
		t.Error("rows differ")
	}
}

// TestWriterRefuses checks that the writer refuses what the reader would.
func TestWriterRefuses(t *testing.T) {
	identity := newIdentity(t)
	note := func(values ...any) row { return row{2, append([]any{"user-1", "note-1"}, values...)} }
	for name, tc := range map[string]struct {
		row  row
		want string
	}{
		"invalid UTF-8":    {row{0, []any{"\xff", nil, nil, nil}}, "column id of users is not valid UTF-8"},
		"too few values":   {row{0, []any{"x"}}, "has 1 values instead of 4"},
		"wrong type":       {note("one", nil, nil), "column revision of notes is of type integer, and its value is a string"},
		"unknown type":     {note(1.5, nil, nil), "its value is a float64"},
		"a row of 2 MiB":   {note(int64(1), bytes.Repeat([]byte("x"), 3<<19), nil), "and the limit is 2097152"},
		"no such table":    {row{4, []any{"x"}}, "a row of table 4 follows one of table 1"},
		"an earlier table": {row{0, []any{"x", nil, nil, nil}}, "a row of table 0 follows one of table 1"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := archive.NewWriter(io.Discard, []age.Recipient{identity.Recipient()}, archiveContents(archive.NewID(started)))
			if err != nil {
				t.Fatal(err)
			}
			if name != "invalid UTF-8" && name != "too few values" {
				if err := w.Row(1, []any{"user-1", "key-1", "wrapped"}); err != nil {
					t.Fatal(err)
				}
			}
			err = w.Row(tc.row.table, tc.row.values)
			refused(t, err, archive.ErrNotArchived, tc.want)
			if _, again := w.Close(); again == nil || again.Error() != err.Error() {
				t.Errorf("Close after an error returned %v, want %v", again, err)
			}
		})
	}
}

// TestWriterNeedsRecipients checks that nothing is written without encryption.
func TestWriterNeedsRecipients(t *testing.T) {
	if _, err := archive.NewWriter(io.Discard, nil, archiveContents(archive.NewID(started))); err == nil {
		t.Error("got a writer without recipients")
	}
}

// TestVerifyWholeBackup checks a whole backup.
func TestVerifyWholeBackup(t *testing.T) {
	b := newBackup(t)
	for name, tc := range map[string]struct {
		identities []age.Identity
		want       archive.Report
		rows       int
	}{
		"without an identity": {want: archive.Report{}},
		"with the archive's":  {identities: []age.Identity{b.identity}, want: archive.Report{Opened: true}, rows: 7},
		"with both":           {identities: b.identities(), want: archive.Report{Opened: true, EscrowOpened: true, CanaryKey: ownerKey(9), CurrentPepper: "pepper-b", Peppers: []archive.Pepper{{ID: "pepper-a", Value: []byte("pepper a")}, {ID: "pepper-b", Value: []byte("pepper b")}}}, rows: 7},
		"with others beside":  {identities: []age.Identity{newIdentity(t), b.identity, newIdentity(t)}, want: archive.Report{Opened: true}, rows: 7},
	} {
		t.Run(name, func(t *testing.T) {
			got, rows, err := b.verify(t, tc.identities...)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.Opened {
				tc.want.Contents = archiveContents(b.id)
				tc.want.Contents.Format = archive.Format
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("report differs (-want +got):\n%s", diff)
			}
			if len(rows) != tc.rows {
				t.Errorf("got %d rows, want %d", len(rows), tc.rows)
			}
		})
	}
}

// TestKeysComeWithTheirRows checks that a restore gets each owner key with its row.
func TestKeysComeWithTheirRows(t *testing.T) {
	b := newBackup(t)
	m, err := b.verified(t)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	if _, err := archive.Read(t.Context(), archive.Check{Manifest: m, Files: b.files, Identities: b.identities(), NeedEscrow: true, Row: func(table archive.Table, values []any, key []byte) error {
		if (table.Name == archive.TableOwnerKeys) != (key != nil) {
			t.Errorf("a row of %s has the key %x", table.Name, key)
		}
		if key != nil {
			got[values[1].(string)] = bytes.Clone(key)
		}
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if want := map[string][]byte{"key-1": ownerKey(1), "key-2": ownerKey(2), "key-3": ownerKey(3)}; !cmp.Equal(got, want) {
		t.Errorf("got keys %x, want %x", got, want)
	}
}
