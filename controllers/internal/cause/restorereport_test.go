package cause

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
)

const restoredBackup = "20261130T120000Z-k3v7m2qx5jd4w6ra"

func TestReadRestoreReport(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		escrow bool
		change func(*config.RestoreReport)
		// want is a part of the error; empty if the report is good.
		want string
	}{
		"in place":                  {change: func(*config.RestoreReport) {}},
		"from the escrow":           {escrow: true, change: func(*config.RestoreReport) {}},
		"of an empty backup":        {change: func(r *config.RestoreReport) { r.Rows, r.Notes, r.Accounts = 0, 0, 0 }},
		"another backup":            {change: func(r *config.RestoreReport) { r.ID = "20261130T120000Z-aaaaaaaaaaaaaaaa" }, want: "value of id"},
		"no deployment":             {change: func(r *config.RestoreReport) { r.DeploymentID = "" }, want: "deploymentID"},
		"a path as a deployment":    {change: func(r *config.RestoreReport) { r.DeploymentID = "../" + r.DeploymentID }, want: "deploymentID"},
		"a deployment of two lines": {change: func(r *config.RestoreReport) { r.DeploymentID += "\n" }, want: "deploymentID"},
		"keys of the escrow":        {change: func(r *config.RestoreReport) { r.FromEscrow = true }, want: "fromEscrow"},
		"no keys of the escrow":     {escrow: true, change: func(r *config.RestoreReport) { r.FromEscrow = false }, want: "fromEscrow"},
		"a pepper in place":         {change: func(r *config.RestoreReport) { r.PepperEntry = "pepper-aaaaaaaaaaaaaaaa" }, want: "pepperEntry"},
		"a digest in place":         {change: func(r *config.RestoreReport) { r.PepperDigest = strings.Repeat("a", 64) }, want: "pepperDigest"},
		"no pepper":                 {escrow: true, change: func(r *config.RestoreReport) { r.PepperEntry = "" }, want: "pepperEntry"},
		"the pepper before":         {escrow: true, change: func(r *config.RestoreReport) { r.PepperEntry = "pepper" }, want: "pepperEntry"},
		"session keys":              {escrow: true, change: func(r *config.RestoreReport) { r.PepperEntry = "session-keys-1" }, want: "pepperEntry"},
		"a pepper elsewhere":        {escrow: true, change: func(r *config.RestoreReport) { r.PepperEntry = "../other/pepper-aaaaaaaaaaaaaaaa" }, want: "pepperEntry"},
		"a short digest":            {escrow: true, change: func(r *config.RestoreReport) { r.PepperDigest = "aa" }, want: "pepperDigest"},
		"negative rows":             {change: func(r *config.RestoreReport) { r.Rows = -1 }, want: "rows"},
		"too many rows":             {change: func(r *config.RestoreReport) { r.Rows = math.MaxInt64 }, want: "rows"},
		"more notes than rows":      {change: func(r *config.RestoreReport) { r.Notes = r.Rows + 1 }, want: "notes"},
		"negative accounts":         {change: func(r *config.RestoreReport) { r.Accounts = -1 }, want: "accounts"},
		"no fence":                  {change: func(r *config.RestoreReport) { r.Fence = 0 }, want: "fence"},
		"negative damage":           {change: func(r *config.RestoreReport) { r.Damaged = -1 }, want: "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := config.RestoreReport{ID: restoredBackup, DeploymentID: "6f1c0000-0000-4000-8000-00000000000a", Rows: 9, Notes: 5, Accounts: 2, Fence: 1}
			if tc.escrow {
				r.FromEscrow, r.PepperEntry, r.PepperDigest = true, "pepper-aaaaaaaaaaaaaaaa", strings.Repeat("a", 64)
			}
			tc.change(&r)
			raw, err := json.Marshal(config.Termination{Reason: config.ReasonComplete, Message: "done", Restore: &r})
			if err != nil {
				t.Fatal(err)
			}
			got, err := ReadRestoreReport(string(raw), restoredBackup, tc.escrow)
			if tc.want == "" {
				if diff := cmp.Diff(r, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "its pod reported") || got != (config.RestoreReport{}) {
				t.Errorf("got %+v and error %v, want one about %s", got, err, tc.want)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "done", "no restore": `{"reason":"Complete","message":"done"}`, "a failure": `{"reason":"Failed","message":"x"}`,
		"a backup": `{"reason":"Complete","message":"done","backup":{}}`, "another field": `{"reason":"Complete","message":"done","restore":{"id":"x","secret":"y"}}`,
		"more than one": `{"reason":"Complete","restore":{}}{}`, "too long": `{"reason":"Complete","message":"` + strings.Repeat("a", 4096) + `"}`,
	} {
		if got, err := ReadRestoreReport(text, restoredBackup, false); err == nil || !strings.HasPrefix(err.Error(), "its pod reported") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
