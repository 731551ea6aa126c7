package cause

import (
	"errors"
	"math"
	"slices"

	"github.com/securenotes/securenotes/app/config"
)

// ReadDrillReport parses the termination message of a complete drill Job, which could use the
// identities of these Vault entries. It checks the message as [ReadBackupReport] does. It also
// returns what the pod says to people.
func ReadDrillReport(text string, entries []string) (report config.DrillReport, message string, err error) {
	termination, err := readStrictly(text)
	if err != nil {
		return config.DrillReport{}, "", err
	}
	if termination.Reason != config.ReasonComplete || termination.Drill == nil {
		return config.DrillReport{}, "", errors.New("its pod reported no drill")
	}
	r := *termination.Drill
	passed := r.Result == config.DrillPassed
	name := firstInvalid([]field{
		{"result", passed || r.Result == config.DrillVersionsRetired},
		{"id", backupID.MatchString(r.ID)},
		{"sequence", r.Sequence >= 1 && r.Sequence < math.MaxInt64},
		{"entry", slices.Contains(entries, r.Entry)},
		{"accounts", within(r.Accounts, 0, maxCount)},
		{"notes", within(r.Notes, 0, maxCount)},
		{"ownerKeys", within(r.OwnerKeys, 0, maxCount) && (passed || r.OwnerKeys == 0)},
		{"values", within(r.Values, 0, maxCount) && (passed || r.Values == 0)},
	})
	if name != "" {
		return config.DrillReport{}, "", errValue(name)
	}
	return r, Sanitize(termination.Message), nil
}
