package config

import (
	"strings"
	"testing"
)

// TestParseMarker checks that a damaged or forged marker is rejected with an error that names the
// field and does not quote its value.
func TestParseMarker(t *testing.T) {
	const id, evil = "7d0e4c1a-53d2-4f6e-9d2c-0a1b2c3d4e5f", `\u001b[8m\nrun this`
	marker := func(more string) string { return `{"uid":"` + id + `","deploymentID":"` + id + `"` + more + `}` }
	names := func(n int) string {
		return `,"otherSessionKeys":[` + strings.TrimSuffix(strings.Repeat(`"session-keys-1",`, n), ",") + `]`
	}
	for name, tc := range map[string]struct {
		json string
		want string // empty: the marker is valid
	}{
		"of an earlier release":        {json: marker(""), want: ""},
		"whole":                        {json: marker(`,"namespaceUID":"` + id + `","clusterUID":"` + id + `","claimed":true,"emptyDatabases":2` + names(MaxOtherSessionKeys)), want: ""},
		"no JSON":                      {json: `uid`, want: "JSON"},
		"deleted":                      {json: `null`, want: "uid"},
		"no uid":                       {json: `{"deploymentID":"` + id + `"}`, want: "uid"},
		"no deployment":                {json: `{"uid":"` + id + `"}`, want: "deploymentID"},
		"a text for a uid":             {json: `{"uid":"` + evil + `","deploymentID":"` + id + `"}`, want: "uid"},
		"more than a uid":              {json: `{"uid":"` + id + `\n","deploymentID":"` + id + `"}`, want: "uid"},
		"a deployment's text":          {json: `{"uid":"` + id + `","deploymentID":"` + evil + `"}`, want: "deploymentID"},
		"a namespace's text":           {json: marker(`,"namespaceUID":"` + evil + `"`), want: "namespaceUID"},
		"a cluster's text":             {json: marker(`,"clusterUID":"` + evil + `"`), want: "clusterUID"},
		"too many session keys":        {json: marker(names(MaxOtherSessionKeys + 1)), want: "otherSessionKeys"},
		"fewer than no database":       {json: marker(`,"emptyDatabases":-1`), want: "emptyDatabases"},
		"as many databases as counted": {json: marker(`,"emptyDatabases":1000000`), want: ""},
		"more databases":               {json: marker(`,"emptyDatabases":1000001`), want: "emptyDatabases"},
		"a number that is rounded":     {json: marker(`,"emptyDatabases":9223372036854774784`), want: "emptyDatabases"},
		"no whole number":              {json: marker(`,"emptyDatabases":1e30`), want: "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseMarker([]byte(tc.json))
			if tc.want == "" {
				if err != nil || got.UID != id || got.DeploymentID != id {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "run this") || got.UID != "" {
				t.Errorf("%+v, %v; want %q", got, err, tc.want)
			}
		})
	}
}
