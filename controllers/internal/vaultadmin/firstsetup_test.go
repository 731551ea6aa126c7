package vaultadmin

import (
	"encoding/json"
	"testing"
	"time"
)

// TestOldKey checks that an object that is not established neither gets nor destroys a key that is
// older than itself, whatever the marker says. It continues with a key that it may have created
// itself, and with one that it asks to adopt.
func TestOldKey(t *testing.T) {
	created := time.Unix(1_800_000_000, 0)
	version := func(number string, age time.Duration) map[string]any {
		return map[string]any{number: created.Add(-age).Unix()}
	}
	for name, tc := range map[string]struct {
		versions map[string]any
		change   func(*Deployment)
		marker   string // instead of one that names the object
		want     Problem
	}{
		"younger":                         {versions: version("1", -time.Minute)},
		"older, as far as clocks differ":  {versions: version("1", clockSkew)},
		"older":                           {versions: version("1", clockSkew+time.Second), want: Retained},
		"without its first version":       {versions: version("2", -time.Minute), want: Retained},
		"without versions":                {want: Retained},
		"older, but recorded":             {versions: version("1", time.Hour), change: func(d *Deployment) { d.Secrets.NextSessionKeys.Entry = "session-keys-1000000000001" }},
		"older, to be adopted":            {versions: version("1", time.Hour), change: func(d *Deployment) { d.Adopt = true }},
		"older, another is to be adopted": {versions: version("1", time.Hour), change: func(d *Deployment) { d.AdoptOf = otherUID }, want: Retained},
		"older, but established":          {versions: version("1", time.Hour), change: func(d *Deployment) { d.DeploymentID = ownUID }},
		"of another deployment":           {versions: version("1", -time.Minute), marker: `{"uid":"` + ownUID + `","deploymentID":"` + firstUID + `"}`, want: Retained},
		"of a database in use":            {versions: version("1", -time.Minute), marker: `{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","claimed":true}`, want: Retained},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.start(t)
			f.keys["key"] = transitKey("aes256-gcm96")
			f.keys["key"]["keys"] = tc.versions
			if tc.marker == "" {
				tc.marker = `{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `"}`
			}
			f.entries["dir/marker"] = []*kvVersion{{data: json.RawMessage(tc.marker)}}
			d := f.deployment(ownUID, false)
			d.Created, d.AdoptOf = created, ""
			if tc.change != nil {
				tc.change(&d)
			}
			if !d.established() {
				if _, err := client.Ensure(t.Context(), d); (tc.want != "" || err != nil) && ProblemOf(err) != tc.want {
					t.Errorf("set-up: %v, want %q", err, tc.want)
				}
			}
			if err := client.Shred(t.Context(), d); (tc.want != "" || err != nil) && ProblemOf(err) != tc.want {
				t.Errorf("deletion: %v, want %q", err, tc.want)
			}
			if left := f.keys["key"] != nil; left != (tc.want != "") {
				t.Errorf("the key is left: %t", left)
			}
		})
	}
}
