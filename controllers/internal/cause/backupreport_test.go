package cause

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
)

var reportedAt = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func goodReport() config.BackupReport {
	return config.BackupReport{
		ID: "20261130T120000Z-k3v7m2qx5jd4w6ra", Sequence: 1, ArchiveSHA256: strings.Repeat("a", 64), ManifestSHA256: strings.Repeat("0", 64),
		Bytes: 1, Escrow: true, Notes: 2, Accounts: 1, OldestKeyVersion: 1, NewestKeyVersion: 1,
		SnapshotAt: reportedAt, VerifiedAt: reportedAt, UploadedAt: reportedAt,
		Destination: &config.DestinationReport{ListedAt: reportedAt, Backups: 1, Bytes: 1, OldestAt: reportedAt, OldestKeyVersion: 1},
	}
}

func reportText(t testing.TB, r config.BackupReport) string {
	t.Helper()
	raw, err := json.Marshal(config.Termination{Reason: config.ReasonComplete, Message: "done", Backup: &r})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestReadBackupReport(t *testing.T) {
	t.Parallel()
	late := reportedAt.Add(48 * time.Hour)
	for name, tc := range map[string]struct {
		change func(*config.BackupReport)
		// want is a part of the error; empty if the report is good.
		want string
	}{
		"good":                      {change: func(*config.BackupReport) {}},
		"of an empty service":       {change: func(r *config.BackupReport) { r.Notes, r.Accounts, r.OldestKeyVersion, r.NewestKeyVersion = 0, 0, 0, 0 }},
		"without a list":            {change: func(r *config.BackupReport) { r.Destination = nil }},
		"with an empty list":        {change: func(r *config.BackupReport) { r.Destination = &config.DestinationReport{ListedAt: reportedAt} }},
		"no id":                     {change: func(r *config.BackupReport) { r.ID = "" }, want: "value of id"},
		"a path":                    {change: func(r *config.BackupReport) { r.ID = "../20261130T120000Z-k3v7m2qx5jd4w6ra" }, want: "value of id"},
		"an id of two lines":        {change: func(r *config.BackupReport) { r.ID += "\n" }, want: "value of id"},
		"no sequence":               {change: func(r *config.BackupReport) { r.Sequence = 0 }, want: "sequence"},
		"a negative sequence":       {change: func(r *config.BackupReport) { r.Sequence = -1 }, want: "sequence"},
		"the last sequence":         {change: func(r *config.BackupReport) { r.Sequence = math.MaxInt64 }, want: "sequence"},
		"a digest in capitals":      {change: func(r *config.BackupReport) { r.ArchiveSHA256 = strings.Repeat("A", 64) }, want: "archiveSHA256"},
		"a short digest":            {change: func(r *config.BackupReport) { r.ManifestSHA256 = "00" }, want: "manifestSHA256"},
		"no bytes":                  {change: func(r *config.BackupReport) { r.Bytes = 0 }, want: "bytes"},
		"too many bytes":            {change: func(r *config.BackupReport) { r.Bytes = math.MaxInt64 }, want: "bytes"},
		"negative notes":            {change: func(r *config.BackupReport) { r.Notes = -1 }, want: "notes"},
		"too many accounts":         {change: func(r *config.BackupReport) { r.Accounts = math.MaxInt64 }, want: "accounts"},
		"versions in another order": {change: func(r *config.BackupReport) { r.OldestKeyVersion = 2 }, want: "oldestKeyVersion"},
		"a negative version":        {change: func(r *config.BackupReport) { r.OldestKeyVersion = -1 }, want: "oldestKeyVersion"},
		"too new a version":         {change: func(r *config.BackupReport) { r.NewestKeyVersion = math.MaxInt64 }, want: "newestKeyVersion"},
		"no time":                   {change: func(r *config.BackupReport) { r.SnapshotAt = time.Time{} }, want: "snapshotAt"},
		"a time before the Job":     {change: func(r *config.BackupReport) { r.VerifiedAt = reportedAt.Add(-48 * time.Hour) }, want: "verifiedAt"},
		"a time to come":            {change: func(r *config.BackupReport) { r.UploadedAt = late }, want: "uploadedAt"},
		"all without escrow":        {change: func(r *config.BackupReport) { r.Destination.WithoutEscrow = 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			r := goodReport()
			tc.change(&r)
			got, err := ReadBackupReport(reportText(t, r), reportedAt, reportedAt)
			if tc.want == "" {
				if diff := cmp.Diff(r, got); err != nil || diff != "" {
					t.Errorf("error %v, %s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || got != (config.BackupReport{}) {
				t.Errorf("got %+v and %v, want an error about %s", got, err, tc.want)
			}
		})
	}
}

// TestListingWithInvalidValues: what others have put into the destination does not make a backup
// that exists a failed one. The listing is dropped, and with it what it says of key versions.
func TestListingWithInvalidValues(t *testing.T) {
	t.Parallel()
	late := reportedAt.Add(48 * time.Hour)
	for name, change := range map[string]func(*config.BackupReport){
		"a list to come":                 func(r *config.BackupReport) { r.Destination.ListedAt = late },
		"a negative number":              func(r *config.BackupReport) { r.Destination.Backups = -1 },
		"negative bytes":                 func(r *config.BackupReport) { r.Destination.Bytes = -1 },
		"a very old backup":              func(r *config.BackupReport) { r.Destination.OldestAt = time.Unix(0, 0) },
		"backups of no time":             func(r *config.BackupReport) { r.Destination.OldestAt = time.Time{} },
		"a negative oldest version":      func(r *config.BackupReport) { r.Destination.OldestKeyVersion = -1 },
		"negative invalid manifests":     func(r *config.BackupReport) { r.Destination.Invalid = -1 },
		"negative deletions":             func(r *config.BackupReport) { r.Destination.Deleted = -1 },
		"a sum that the Job has bounded": func(r *config.BackupReport) { r.Destination.Bytes = math.MaxInt64 },
		"a backup to come":               func(r *config.BackupReport) { r.Destination.OldestAt = late },
		"negative without escrow":        func(r *config.BackupReport) { r.Destination.WithoutEscrow = -1 },
		"more without escrow":            func(r *config.BackupReport) { r.Destination.WithoutEscrow = 2 },
		"too new an oldest version":      func(r *config.BackupReport) { r.Destination.OldestKeyVersion = math.MaxInt64 },
	} {
		t.Run(name, func(t *testing.T) {
			r := goodReport()
			change(&r)
			got, err := ReadBackupReport(reportText(t, r), reportedAt, reportedAt)
			r.Destination = nil
			if diff := cmp.Diff(r, got); err != nil || diff != "" {
				t.Errorf("error %v, %s", err, diff)
			}
		})
	}
}

// TestDeletionRefused: only an error can be a refusal.
func TestDeletionRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"access denied": true, "": false} {
		r := goodReport()
		r.Destination.DeletionError, r.Destination.DeletionRefused = text, true
		got, err := ReadBackupReport(reportText(t, r), reportedAt, reportedAt)
		if err != nil || got.Destination.DeletionError != text || got.Destination.DeletionRefused != want {
			t.Errorf("%q: error %v, %+v", text, err, got.Destination)
		}
	}
}

// TestUnreadableBackupReports: a text that is not what the Job writes is refused as a whole.
func TestUnreadableBackupReports(t *testing.T) {
	t.Parallel()
	good := reportText(t, goodReport())
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":                      {text: "", want: "reported nothing"},
		"a sentence":                   {text: "done", want: "cannot be read"},
		"two reports":                  {text: good + good, want: "cannot be read"},
		"more than Kubernetes keeps":   {text: good + strings.Repeat(" ", 4096), want: "cannot be read"},
		"an unknown field":             {text: strings.Replace(good, `"bytes":`, `"plaintext":1,"bytes":`, 1), want: "cannot be read"},
		"an unknown field outside":     {text: strings.Replace(good, `"reason":`, `"phase":"x","reason":`, 1), want: "cannot be read"},
		"a fraction":                   {text: strings.Replace(good, `"notes":2`, `"notes":2.5`, 1), want: "cannot be read"},
		"more than 64 bits":            {text: strings.Replace(good, `"notes":2`, `"notes":99999999999999999999`, 1), want: "cannot be read"},
		"a time in words":              {text: strings.Replace(good, `"snapshotAt":"`, `"snapshotAt":"at `, 1), want: "cannot be read"},
		"a failure":                    {text: strings.Replace(good, `"reason":"Complete"`, `"reason":"Failed"`, 1), want: "no backup"},
		"a success of another command": {text: `{"reason":"Complete","message":"verified"}`, want: "no backup"},
		"null":                         {text: `null`, want: "no backup"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ReadBackupReport(tc.text, reportedAt, reportedAt); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v and %v, want an error with %q", got, err, tc.want)
			}
		})
	}
}

// FuzzReadBackupReport checks that what becomes a status has the form and the bounds of its fields,
// and that no error quotes the text.
func FuzzReadBackupReport(f *testing.F) {
	good := goodReport()
	f.Add(reportText(f, good))
	good.Destination.DeletionError = "hvs.CAESIJ access\tdenied \xff" + strings.Repeat("ä", 600)
	f.Add(reportText(f, good))
	good.Destination = nil
	f.Add(reportText(f, good))
	f.Add(`{"reason":"Complete","message":"","backup":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadBackupReport(text, reportedAt, reportedAt)
		if err != nil {
			if r != (config.BackupReport{}) || len(err.Error()) > 200 {
				t.Errorf("refused with %q, and yet %+v", err, r)
			}
			return
		}
		counts := []int64{r.Sequence, r.Bytes, r.Notes, r.Accounts, r.OldestKeyVersion, r.NewestKeyVersion}
		texts := []string{r.ID, r.ArchiveSHA256, r.ManifestSHA256}
		times := []time.Time{r.SnapshotAt, r.VerifiedAt, r.UploadedAt}
		if d := r.Destination; d != nil {
			counts = append(counts, d.Backups, d.Bytes, d.OldestKeyVersion, d.WithoutEscrow, d.Invalid, d.Deleted)
			if len(d.DeletionError) > maxDeletionError || strings.ContainsFunc(d.DeletionError, unicode.IsControl) || !utf8.ValidString(d.DeletionError) {
				t.Errorf("deletionError %q", d.DeletionError)
			}
			times = append(times, d.ListedAt)
		}
		for _, n := range counts {
			if n < 0 || n == math.MaxInt64 {
				t.Errorf("a count of %d", n)
			}
		}
		for _, s := range texts {
			if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' || r > 'z' }) {
				t.Errorf("a text %q", s)
			}
		}
		for _, at := range times {
			if at.Sub(reportedAt).Abs() > maxClockSkew || at.Location() != time.UTC {
				t.Errorf("a time %s", at)
			}
		}
	})
}
