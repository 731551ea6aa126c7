package config

import (
	"strings"
	"testing"
)

// TestParseMarker: a marker that somebody has damaged or forged is refused, by the name of the
// field and without a word of what it holds.
func TestParseMarker(t *testing.T) {
	const id, evil = "7d0e4c1a-53d2-4f6e-9d2c-0a1b2c3d4e5f", `\u001b[8m\nrun this`
	marker := func(more string) string { return `{"uid":"` + id + `","deploymentID":"` + id + `"` + more + `}` }
	names := func(n int) string {
		return `,"otherSessionKeys":[` + strings.TrimSuffix(strings.Repeat(`"session-keys-1",`, n), ",") + `]`
	}
	for name, tc := range map[string]struct {
		json string
		want string // empty: it is a marker
	}{
		"of an earlier release":        {marker(""), ""},
		"whole":                        {marker(`,"namespaceUID":"` + id + `","clusterUID":"` + id + `","claimed":true,"emptyDatabases":2` + names(MaxOtherSessionKeys)), ""},
		"no JSON":                      {`uid`, "JSON"},
		"deleted":                      {`null`, "uid"},
		"no uid":                       {`{"deploymentID":"` + id + `"}`, "uid"},
		"no deployment":                {`{"uid":"` + id + `"}`, "deploymentID"},
		"a text for a uid":             {`{"uid":"` + evil + `","deploymentID":"` + id + `"}`, "uid"},
		"more than a uid":              {`{"uid":"` + id + `\n","deploymentID":"` + id + `"}`, "uid"},
		"a deployment's text":          {`{"uid":"` + id + `","deploymentID":"` + evil + `"}`, "deploymentID"},
		"a namespace's text":           {marker(`,"namespaceUID":"` + evil + `"`), "namespaceUID"},
		"a cluster's text":             {marker(`,"clusterUID":"` + evil + `"`), "clusterUID"},
		"too many session keys":        {marker(names(MaxOtherSessionKeys + 1)), "otherSessionKeys"},
		"fewer than no database":       {marker(`,"emptyDatabases":-1`), "emptyDatabases"},
		"as many databases as counted": {marker(`,"emptyDatabases":1000000`), ""},
		"more databases":               {marker(`,"emptyDatabases":1000001`), "emptyDatabases"},
		"a number that is rounded":     {marker(`,"emptyDatabases":9223372036854774784`), "emptyDatabases"},
		"no whole number":              {marker(`,"emptyDatabases":1e30`), "JSON"},
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
