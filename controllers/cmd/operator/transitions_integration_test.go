//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// transitions has every rule that compares an object with its earlier state: with the field and its
// parents set, unset, added, removed, and written as their defaults. An empty want means that the
// change is allowed.
var transitions = map[string]struct{ kind, before, status, change, want string }{
	"database: unset to postgres":              {before: `{}`, change: `{database: {postgres: {uriSecretRef: {name: a, key: b}}}}`, want: "database cannot change"},
	"database: empty arm to postgres":          {before: `{database: {embedded: {}}}`, change: `{database: {embedded: null, postgres: {uriSecretRef: {name: a, key: b}}}}`, want: "database cannot change"},
	"database: postgres to unset":              {before: `{database: {postgres: {uriSecretRef: {name: a, key: b}}}}`, change: `{database: null}`, want: "database cannot change"},
	"database: postgres to embedded":           {before: `{database: {postgres: {uriSecretRef: {name: a, key: b}}}}`, change: `{database: {postgres: null, embedded: {}}}`, want: "database cannot change"},
	"database: the default written out":        {before: `{}`, change: `{database: {embedded: {}}}`},
	"database: the default taken out":          {before: `{database: {embedded: {storage: {}}}}`, change: `{database: null}`},
	"database: another URI":                    {before: `{database: {postgres: {uriSecretRef: {name: a, key: b}}}}`, change: `{database: {postgres: {uriSecretRef: {name: c}}}}`},
	"vaultConnection: unset to another":        {before: `{}`, change: `{vaultConnection: other}`, want: "vaultConnection cannot be changed"},
	"vaultConnection: another to unset":        {before: `{vaultConnection: other}`, change: `{vaultConnection: null}`, want: "vaultConnection cannot be changed"},
	"vaultConnection: changed":                 {before: `{vaultConnection: other}`, change: `{vaultConnection: third}`, want: "vaultConnection cannot be changed"},
	"vaultConnection: the default written out": {before: `{}`, change: `{vaultConnection: default}`},
	"vaultConnection: the default taken out":   {before: `{vaultConnection: default}`, change: `{vaultConnection: null}`},
	"storageClassName: database added":         {before: `{}`, change: `{database: {embedded: {storage: {storageClassName: b}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: embedded filled":        {before: `{database: {embedded: {}}}`, change: `{database: {embedded: {storage: {storageClassName: b}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: storage filled":         {before: `{database: {embedded: {storage: {}}}}`, change: `{database: {embedded: {storage: {storageClassName: b}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: a dash added":           {before: `{}`, change: `{database: {embedded: {storage: {storageClassName: "-"}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: a dash removed":         {before: `{database: {embedded: {storage: {storageClassName: "-"}}}}`, change: `{database: null}`, want: "storageClassName cannot be changed"},
	"storageClassName: changed":                {before: `{database: {embedded: {storage: {storageClassName: a}}}}`, change: `{database: {embedded: {storage: {storageClassName: b}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: removed":                {before: `{database: {embedded: {storage: {storageClassName: a}}}}`, change: `{database: {embedded: {storage: {storageClassName: null}}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: storage removed":        {before: `{database: {embedded: {storage: {storageClassName: a}}}}`, change: `{database: {embedded: {storage: null}}}`, want: "storageClassName cannot be changed"},
	"storageClassName: database removed":       {before: `{database: {embedded: {storage: {storageClassName: a}}}}`, change: `{database: null}`, want: "storageClassName cannot be changed"},
	"storageClassName: kept while size grows":  {before: `{database: {embedded: {storage: {storageClassName: a}}}}`, change: `{database: {embedded: {storage: {size: 2Gi}}}}`},
	"size: database added":                     {before: `{}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 512Mi}}}}`, want: "size can only grow"},
	"size: embedded filled":                    {before: `{database: {embedded: {}}}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 512Mi}}}}`, want: "size can only grow"},
	"size: storage filled":                     {before: `{database: {embedded: {storage: {}}}}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 512Mi}}}}`, want: "size can only grow"},
	"size: lowered":                            {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 4Gi}`, change: `{database: {embedded: {storage: {size: 2Gi}}}}`, want: "size can only grow"},
	"size: removed":                            {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 4Gi}`, change: `{database: {embedded: {storage: {size: null}}}}`, want: "size can only grow"},
	"size: storage removed":                    {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 4Gi}`, change: `{database: {embedded: {storage: null}}}`, want: "size can only grow"},
	"size: embedded emptied":                   {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 4Gi}`, change: `{database: null}`, want: "size can only grow"},
	"size: raised":                             {before: `{}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 2Gi}}}}`},
	"size: the default written out":            {before: `{}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 1Gi}}}}`},
	"size: the default in another unit":        {before: `{}`, status: `{volumeSize: 1Gi}`, change: `{database: {embedded: {storage: {size: 1024Mi}}}}`},
	"size: the default taken out":              {before: `{database: {embedded: {storage: {size: 1Gi}}}}`, status: `{volumeSize: 1Gi}`, change: `{database: null}`},
	"size: back to the volume's":               {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 2Gi}`, change: `{database: {embedded: {storage: {size: 2Gi}}}}`},
	"size: back to the default":                {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 1Gi}`, change: `{database: null}`},
	"size: back below the volume's":            {before: `{database: {embedded: {storage: {size: 4Gi}}}}`, status: `{volumeSize: 2Gi}`, change: `{database: {embedded: {storage: {size: 2047Mi}}}}`, want: "size can only grow"},
	"size: lowered before there is a volume":   {before: `{database: {embedded: {storage: {size: 4Ti}}}}`, change: `{database: {embedded: {storage: {size: 4Gi}}}}`},
	"size: none with postgres":                 {before: `{database: {postgres: {uriSecretRef: {name: a, key: b}}}}`, change: `{replicas: 3}`},
	"KeyRotation: optional field added":        {kind: "KeyRotation", before: `{secureNotesRef: {name: nobody}}`, change: `{reason: Routine}`, want: "create another KeyRotation"},
	"KeyRotation: optional field removed":      {kind: "KeyRotation", before: `{secureNotesRef: {name: nobody}, strategy: Rewrap}`, change: `{strategy: null}`, want: "create another KeyRotation"},
	"KeyRotation: another SecureNotes":         {kind: "KeyRotation", before: `{secureNotesRef: {name: nobody}}`, change: `{secureNotesRef: {name: other}}`, want: "create another KeyRotation"},
}

// statusTransitions are those of the status of a KeyRotation, whose fields are written once.
var statusTransitions = map[string]struct{ before, change, want string }{
	"fromVersion: first written": {before: `{}`, change: `{fromVersion: 1}`, want: ""},
	"fromVersion: changed":       {before: `{fromVersion: 1}`, change: `{fromVersion: 2}`, want: "fromVersion cannot be changed"},
	"fromVersion: removed":       {before: `{fromVersion: 1}`, change: `{fromVersion: null}`, want: "fromVersion cannot be changed"},
	"fromVersion: all removed":   {before: `{fromVersion: 1}`, change: `null`, want: "fromVersion cannot be changed"},
	"fromVersion: kept":          {before: `{fromVersion: 1}`, change: `{toVersion: 2}`, want: ""},
	"toVersion: changed":         {before: `{toVersion: 2}`, change: `{toVersion: 3}`, want: "toVersion cannot be changed"},
	"toVersion: removed":         {before: `{toVersion: 2}`, change: `{toVersion: null}`, want: "toVersion cannot be changed"},
	"toVersion: kept":            {before: `{fromVersion: 1, toVersion: 2}`, change: `{attempt: 2}`, want: ""},
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	number := 0
	object := func(t *testing.T, kind, spec string) *unstructured.Unstructured {
		number++
		o := unstructuredOf(t, namespace, kind, fmt.Sprintf("transition-%d", number), spec)
		if kind == "SecureNotes" {
			for path, value := range map[string]any{"suspend": true, "tls": map[string]any{"secretRef": map[string]any{"name": "a"}}} {
				if err := unstructured.SetNestedField(o.Object, value, "spec", path); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Delete(context.Background(), o) })
		return o
	}
	for name, tc := range transitions {
		t.Run(name, func(t *testing.T) {
			if tc.kind == "" {
				tc.kind = "SecureNotes"
			}
			o := object(t, tc.kind, tc.before)
			if tc.status != "" {
				if err := c.Status().Patch(t.Context(), o.DeepCopy(), mergePatch(t, `{status: `+tc.status+`}`)); err != nil {
					t.Fatal(err)
				}
			}
			judge(t, c.Patch(t.Context(), o.DeepCopy(), mergePatch(t, `{spec: `+tc.change+`}`)), tc.want)
		})
	}
	for name, tc := range statusTransitions {
		t.Run(name, func(t *testing.T) {
			o := object(t, "KeyRotation", `{secureNotesRef: {name: nobody}}`)
			if err := c.Status().Patch(t.Context(), o.DeepCopy(), mergePatch(t, `{status: `+tc.before+`}`)); err != nil {
				t.Fatal(err)
			}
			judge(t, c.Status().Patch(t.Context(), o.DeepCopy(), mergePatch(t, `{status: `+tc.change+`}`)), tc.want)
		})
	}
}

func mergePatch(t *testing.T, text string) client.Patch {
	t.Helper()
	patch, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return client.RawPatch("application/merge-patch+json", patch)
}

// judge fails unless the API server answers as wanted: with a rejection that contains want, or, if
// want is empty, without one.
func judge(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("it is rejected: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("the rejection does not contain %q: %v", want, err)
	}
}
