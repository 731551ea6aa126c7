package cause

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/securenotes/securenotes/app/config"
)

// objectUID is the form of the UIDs that the API server generates. A deployment ID is one.
var objectUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// ReadRestoreReport parses the termination message of a complete Job that restored the backup id,
// with the keys of the escrow or without. It checks all of it, as [ReadBackupReport] does.
func ReadRestoreReport(text, id string, escrow bool) (config.RestoreReport, error) {
	if text == "" {
		return config.RestoreReport{}, errors.New("its pod reported nothing, or does not exist any more")
	}
	termination, err := readStrictly(text)
	if err != nil {
		return config.RestoreReport{}, err
	}
	if termination.Reason != config.ReasonComplete || termination.Restore == nil {
		return config.RestoreReport{}, errors.New("its pod reported no restore")
	}
	r := *termination.Restore
	pepper := r.PepperEntry == "" && r.PepperDigest == ""
	if escrow {
		pepper = strings.HasPrefix(r.PepperEntry, config.PepperLeaf+"-") && config.IsPepperEntry(r.PepperEntry) && config.IsDigest(r.PepperDigest)
	}
	for _, field := range []struct {
		name  string
		valid bool
	}{
		{"id", r.ID == id},
		{"deploymentID", objectUID.MatchString(r.DeploymentID)},
		{"fromEscrow", r.FromEscrow == escrow},
		{"pepperEntry or pepperDigest", pepper},
		{"rows", within(r.Rows, 0, maxCount)},
		{"notes", within(r.Notes, 0, r.Rows)},
		{"accounts", within(r.Accounts, 0, r.Rows)},
		{"fence", within(int64(r.Fence), 1, maxKeyVersion)},
		{"damaged", within(r.Damaged, 0, maxCount)},
	} {
		if !field.valid {
			return config.RestoreReport{}, fmt.Errorf("its pod reported a value of %s that cannot be right", field.name)
		}
	}
	return r, nil
}
