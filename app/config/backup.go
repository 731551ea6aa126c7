package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Backup says what the subcommands backup and restore read and write.
type Backup struct {
	// SecureNotesUID is the UID of the object that the backups belong to. It differs from
	// Deployment.ID if the object adopted a retained key.
	SecureNotesUID string `json:"secureNotesUID"`
	// Recipients are the age recipients that an archive is encrypted to, 1 to 17: up to 16 that
	// people chose, and that of the drill. They are all of the form age1… or all of the form
	// age1pq1…, because age refuses a mixture. The role [RoleRestore] needs none.
	Recipients []string `json:"recipients,omitempty"`
	// Escrow, if set, adds a second file with the owner keys unwrapped and with the peppers. The
	// holder of its identity restores without Vault, and can read every note.
	Escrow *Escrow `json:"escrow,omitempty"`
	// Destination is where backups are.
	Destination Destination `json:"destination"`
	// Keep, if set, says which backups the next one deletes.
	Keep *Keep `json:"keep,omitempty"`
	// StartedAt is when the operator started the backup. The age of backups, and of what failed
	// ones left, is measured at this time, or at that of the node's clock if it is earlier, so that
	// a clock that is ahead deletes nothing. Zero: at that of the node's clock.
	StartedAt time.Time `json:"startedAt,omitzero"`
	// Drill is for the subcommand backup drill.
	Drill *Drill `json:"drill,omitempty"`
}

// Drill says how the newest backup is tested.
type Drill struct {
	// Identities are the age identities in Vault that may open the archive, newest first, 1 to 5.
	Identities []DrillEntry `json:"identities"`
	// Sequence is that of the newest backup that is known to be complete. If the destination has
	// only older ones, the drill fails. 0: none is known.
	Sequence int64 `json:"sequence,omitempty"`
	// Directory is where the drill restores to. Its files are deleted afterwards.
	Directory string `json:"directory"`
}

// DrillEntry names an entry with a [DrillIdentity]. An identity with another recipient is refused.
type DrillEntry struct {
	Entry     string `json:"entry"`
	Recipient string `json:"recipient"`
}

// Keep says which backups are kept: those that are among the newest Count, or younger than Age. The
// newest is always kept. Zero: the field keeps none.
type Keep struct {
	// Count is 0 to 1000.
	Count int `json:"count,omitempty"`
	// Age is 0, or 1 hour to 10 years.
	Age Duration `json:"age,omitempty"`
}

// Escrow names who can restore without Vault.
type Escrow struct {
	// Recipients are age recipients, 1 to 16, as in [Backup].
	Recipients []string `json:"recipients"`
}

// Destination is exactly one of Directory and ObjectStore.
type Destination struct {
	Directory   *Directory   `json:"directory,omitempty"`
	ObjectStore *ObjectStore `json:"objectStore,omitempty"`
}

// Directory is a directory of a mounted volume.
type Directory struct {
	Path string `json:"path"`
}

// ObjectStore is a part of an S3 bucket, or of a bucket with the same protocol.
type ObjectStore struct {
	// URL is https://HOST[:PORT]/BUCKET[/PREFIX][?region=REGION].
	URL string `json:"url"`
	// CredentialsDirectory has the files access-key-id and secret-access-key, and may have
	// session-token. Empty: the web identity of the pod's service account.
	CredentialsDirectory string `json:"credentialsDirectory,omitempty"`
	// CAFile holds the PEM certificates that the server's certificate must chain to. Empty: the
	// system's.
	CAFile string `json:"caFile,omitempty"`
}

// What backup.keep may be, as in the CRD.
const (
	maxKeepCount = 1000
	minKeepAge   = time.Hour
	maxKeepAge   = 87_600 * time.Hour
)

const (
	// MaxRecipients bounds the recipients of one file.
	MaxRecipients = 17
	// maxEscrowRecipients bounds those of an escrow file, which is never encrypted to the drill.
	maxEscrowRecipients = MaxRecipients - 1
	// MaxDrillIdentities bounds the identities of the drill.
	MaxDrillIdentities = 5
)

// Two kinds of age recipients: X25519, and the hybrid of X25519 and ML-KEM-768.
var (
	x25519Recipient = regexp.MustCompile(`^age1[02-9ac-hj-np-z]{58}$`)
	hybridRecipient = regexp.MustCompile(`^age1pq1[02-9ac-hj-np-z]{1000}[02-9ac-hj-np-z]{900,1000}$`)
)

// restores reports whether the configuration is that of a restore Job.
func (c *Config) restores() bool { return c.Keys.Vault != nil && c.Keys.Vault.Role == RoleRestore }

func (b *Backup) validate(bad badFunc, need needFunc) {
	need("backup.secureNotesUID", b.SecureNotesUID)
	if b.Escrow != nil {
		validateRecipients(bad, "backup.escrow.recipients", b.Escrow.Recipients, maxEscrowRecipients)
	}
	if b.Drill != nil {
		b.Drill.validate(bad, need)
	}
	b.Destination.validate(bad, need)
	if b.Keep != nil {
		b.Keep.validate(bad)
	}
}

func (k *Keep) validate(bad badFunc) {
	if k.Count == 0 && k.Age == 0 {
		bad("backup.keep", "needs count, age or both")
	}
	if k.Count < 0 || k.Count > maxKeepCount {
		bad("backup.keep.count", "must be 1 to %d, not %d", maxKeepCount, k.Count)
	}
	if age := time.Duration(k.Age); age != 0 && (age < minKeepAge || age > maxKeepAge) {
		bad("backup.keep.age", "must be %s to %s, not %s", minKeepAge, maxKeepAge, age)
	}
}

func (d *Drill) validate(bad badFunc, need needFunc) {
	if n := len(d.Identities); n < 1 || n > MaxDrillIdentities {
		bad("backup.drill.identities", "needs 1 to %d entries, not %d", MaxDrillIdentities, n)
	}
	for i, identity := range d.Identities {
		field := fmt.Sprintf("backup.drill.identities[%d]", i)
		if !IsDrillEntry(identity.Entry) {
			bad(field+".entry", "is not the name of an identity of the drill")
		}
		validateRecipients(bad, field+".recipient", []string{identity.Recipient}, 1)
	}
	if d.Sequence < 0 {
		bad("backup.drill.sequence", "must not be negative")
	}
	need("backup.drill.directory", d.Directory)
}

func validateRecipients(bad badFunc, field string, recipients []string, most int) {
	if n := len(recipients); n < 1 || n > most {
		bad(field, "needs 1 to %d age recipients, not %d", most, n)
		return
	}
	hybrid := 0
	for i, recipient := range recipients {
		switch {
		case hybridRecipient.MatchString(recipient):
			hybrid++
		case !x25519Recipient.MatchString(recipient):
			bad(fmt.Sprintf("%s[%d]", field, i), "is not an age recipient of the form age1… or age1pq1…")
		}
	}
	if hybrid > 0 && hybrid < len(recipients) {
		bad(field, "must be all of the form age1… or all of the form age1pq1…, because age refuses a mixture")
	}
}

func (d *Destination) validate(bad badFunc, need needFunc) {
	switch {
	case (d.Directory == nil) == (d.ObjectStore == nil):
		bad("backup.destination", "needs exactly one of directory and objectStore")
	case d.Directory != nil:
		need("backup.destination.directory.path", d.Directory.Path)
	default:
		if _, err := d.ObjectStore.Parse(); err != nil {
			bad("backup.destination.objectStore.url", "%s", err)
		}
	}
}

// BucketURL is the parsed URL of an ObjectStore.
type BucketURL struct {
	// Host is HOST or HOST:PORT.
	Host, Bucket string
	// Prefix is empty, or ends with a slash.
	Prefix string
	// Region is empty unless the URL names it.
	Region string
}

// bucketName is the form that S3 allows.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// maxURL bounds the URL of an ObjectStore, in bytes.
const maxURL = 512

// Parse returns the parts of the URL. Its errors do not quote the URL, which may contain
// credentials by mistake.
func (o *ObjectStore) Parse() (BucketURL, error) {
	form := fmt.Errorf("must have the form https://HOST/BUCKET, https://HOST/BUCKET/PREFIX or https://HOST/BUCKET?region=REGION")
	u, err := url.Parse(o.URL)
	if err != nil || len(o.URL) > maxURL || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return BucketURL{}, form
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if !bucketName.MatchString(bucket) || prefix != "" && !cleanPath(prefix) {
		return BucketURL{}, form
	}
	parsed := BucketURL{Host: u.Host, Bucket: bucket, Region: u.Query().Get("region")}
	if rest := u.Query(); len(rest) > 1 || len(rest) == 1 && parsed.Region == "" {
		return BucketURL{}, form
	}
	if prefix != "" {
		parsed.Prefix = prefix + "/"
	}
	return parsed, nil
}
