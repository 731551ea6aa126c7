package cause

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/truncate"
)

const (
	// maxTermination is what Kubernetes keeps of a termination message, in bytes.
	maxTermination = 4096
	// maxCount bounds the counts of a report, and maxBytes the sizes.
	maxCount, maxBytes = 1 << 40, 1 << 60
	// maxKeyVersion bounds versions of the master key.
	maxKeyVersion = 1 << 40
	// maxDeletionError is the maximum length of status.destination.deletionError, in bytes.
	maxDeletionError = 512
	// maxClockSkew is how much the clock of a node may differ from that of the operator.
	maxClockSkew = 24 * time.Hour
)

var (
	backupID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}$`)
	sha256   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ReadBackupReport parses the termination message of a complete backup Job that began at started.
// Anyone who runs pods in the namespace can write one, so everything in it is checked: fields that
// are not known, texts, ranges and times. Errors begin with "its pod"; they quote nothing.
//
// A listing of the destination with an invalid value is dropped, as if the Job had none: other
// people may write to the destination, and the backup is complete nevertheless.
func ReadBackupReport(text string, started, now time.Time) (config.BackupReport, error) {
	termination, err := readStrictly(text)
	if err != nil {
		return config.BackupReport{}, err
	}
	if termination.Reason != config.ReasonComplete || termination.Backup == nil {
		return config.BackupReport{}, errNoBackup
	}
	report := *termination.Backup
	since, until := started.Add(-maxClockSkew), now.Add(maxClockSkew)
	if name := firstInvalid(backupFields(report, since, until)); name != "" {
		return config.BackupReport{}, errValue(name)
	}
	if d := report.Destination; d != nil && firstInvalid(listingFields(d, since, until)) != "" {
		report.Destination = nil
	}
	report.SnapshotAt, report.VerifiedAt, report.UploadedAt = report.SnapshotAt.UTC(), report.VerifiedAt.UTC(), report.UploadedAt.UTC()
	if d := report.Destination; d != nil {
		d.DeletionError = truncate.Bytes(Sanitize(d.DeletionError), maxDeletionError)
		d.DeletionRefused = d.DeletionRefused && d.DeletionError != ""
		d.ListedAt, d.OldestAt = d.ListedAt.UTC(), d.OldestAt.UTC()
	}
	return report, nil
}

// errNoBackup says that a pod reported something else than its Job is for.
var errNoBackup = errors.New("its pod reported no backup")

func errValue(field string) error {
	return fmt.Errorf("its pod reported a value of %s that cannot be right", field)
}

func readStrictly(text string) (config.Termination, error) {
	if text == "" {
		return config.Termination{}, errors.New("its pod reported nothing, or does not exist any more")
	}
	termination := config.Termination{}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	unreadable := errors.New("its pod reported something that cannot be read")
	if len(text) > maxTermination || decoder.Decode(&termination) != nil {
		return config.Termination{}, unreadable
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return config.Termination{}, unreadable
	}
	return termination, nil
}

// backupFields returns the fields of a report, except those of the listing. What happened while the
// Job ran was from since to until.
func backupFields(r config.BackupReport, since, until time.Time) []field {
	return []field{
		{"id", backupID.MatchString(r.ID)},
		{"sequence", r.Sequence >= 1 && r.Sequence < math.MaxInt64},
		{"archiveSHA256", sha256.MatchString(r.ArchiveSHA256)},
		{"manifestSHA256", sha256.MatchString(r.ManifestSHA256)},
		{"bytes", within(r.Bytes, 1, maxBytes)},
		{"notes", within(r.Notes, 0, maxCount)},
		{"accounts", within(r.Accounts, 0, maxCount)},
		{"newestKeyVersion", within(r.NewestKeyVersion, 0, maxKeyVersion)},
		{"oldestKeyVersion", within(r.OldestKeyVersion, 0, r.NewestKeyVersion)},
		{"snapshotAt", between(r.SnapshotAt, since, until)},
		{"verifiedAt", between(r.VerifiedAt, since, until)},
		{"uploadedAt", between(r.UploadedAt, since, until)},
	}
}

// listingFields returns the fields of a listing that was made from since to until.
func listingFields(d *config.DestinationReport, since, until time.Time) []field {
	return []field{
		{"destination.listedAt", between(d.ListedAt, since, until)},
		{"destination.backups", within(d.Backups, 0, maxCount)},
		{"destination.bytes", within(d.Bytes, 0, maxBytes)},
		{"destination.oldestAt", between(d.OldestAt, config.EarliestBackup, until) || d.Backups == 0 && d.OldestAt.IsZero()},
		{"destination.oldestKeyVersion", within(d.OldestKeyVersion, 0, maxKeyVersion)},
		{"destination.withoutEscrow", within(d.WithoutEscrow, 0, d.Backups)},
		{"destination.invalid", within(d.Invalid, 0, maxCount)},
		{"destination.deleted", within(d.Deleted, 0, maxCount)},
	}
}

// field is a field of a report.
type field struct {
	name  string
	valid bool
}

func firstInvalid(fields []field) string {
	for _, f := range fields {
		if !f.valid {
			return f.name
		}
	}
	return ""
}

func within(n, least, most int64) bool { return n >= least && n <= most }

func between(t, since, until time.Time) bool { return !t.Before(since) && !t.After(until) }
