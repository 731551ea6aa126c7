package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Backup says what the subcommands backup and restore read and write.
type Backup struct {
	// SecureNotesUID is the UID of the object that the backups belong to. It differs from
	// Deployment.ID if the object adopted a retained key.
	SecureNotesUID string `json:"secureNotesUID"`
	// Recipients are the age recipients that an archive is encrypted to, 1 to 16. They are all of
	// the form age1… or all of the form age1pq1…, because age refuses a mixture.
	Recipients []string `json:"recipients,omitempty"`
	// Escrow, if set, adds a second file with the owner keys unwrapped and with the peppers. The
	// holder of its identity restores without Vault, and can read every note.
	Escrow *Escrow `json:"escrow,omitempty"`
	// Destination is where backups are.
	Destination Destination `json:"destination"`
}

// Escrow names who can restore without Vault.
type Escrow struct {
	// Recipients are age recipients, as in [Backup].
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

// MaxRecipients bounds the recipients of one file.
const MaxRecipients = 16

// Two kinds of age recipients: X25519, and the hybrid of X25519 and ML-KEM-768.
var (
	x25519Recipient = regexp.MustCompile(`^age1[02-9ac-hj-np-z]{58}$`)
	hybridRecipient = regexp.MustCompile(`^age1pq1[02-9ac-hj-np-z]{1000}[02-9ac-hj-np-z]{900,1000}$`)
)

func (b *Backup) validate(bad badFunc, need needFunc) {
	need("backup.secureNotesUID", b.SecureNotesUID)
	validateRecipients(bad, "backup.recipients", b.Recipients)
	if b.Escrow != nil {
		validateRecipients(bad, "backup.escrow.recipients", b.Escrow.Recipients)
	}
	b.Destination.validate(bad, need)
}

func validateRecipients(bad badFunc, field string, recipients []string) {
	if n := len(recipients); n < 1 || n > MaxRecipients {
		bad(field, "needs 1 to %d age recipients, not %d", MaxRecipients, n)
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
