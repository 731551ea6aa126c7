//go:build integration

package main

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestRestoreAdmission has the API server judge NotesRestores.
func TestRestoreAdmission(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	const id = "20261130T013000Z-k3v7m2qx5jd4w6ra"
	digest := strings.Repeat("0", 64)
	plain := `secureNotesRef: {name: absent}, id: ` + id + `, identitySecretRef: {name: a, key: b}`
	key := `{version: 1, publicKey: ` + strings.Repeat("A", 43) + `=, since: "2026-11-30T01:30:00Z"}`
	for name, tc := range map[string]struct{ spec, want string }{
		"the least":                  {plain, ""},
		"all of it":                  {plain + `, older: true, overwrite: true, acceptDamaged: true, acceptSHA256: "` + digest + `", escrowIdentitySecretRef: {name: a, key: c}, publicKeys: {key: a, versions: [` + key + `]}, destination: {persistentVolumeClaim: {claimName: other}}`, ""},
		"a bucket":                   {plain + `, destination: {objectStore: {url: "https://s3.example.com/bucket"}}`, ""},
		"an id that is a path":       {`secureNotesRef: {name: a}, id: ../x, identitySecretRef: {name: a, key: b}`, "spec.id"},
		"an id that is a flag":       {`secureNotesRef: {name: a}, id: --overwrite, identitySecretRef: {name: a, key: b}`, "spec.id"},
		"no identity":                {`secureNotesRef: {name: a}, id: ` + id, "identitySecretRef"},
		"an identity's name climbs":  {`secureNotesRef: {name: a}, id: ` + id + `, identitySecretRef: {name: ../a, key: b}`, "identitySecretRef.name"},
		"no place":                   {plain + `, destination: {}`, "exactly one of objectStore and persistentVolumeClaim"},
		"two places":                 {plain + `, destination: {persistentVolumeClaim: {claimName: a}, objectStore: {url: "https://s3.example.com/bucket"}}`, "exactly one of objectStore and persistentVolumeClaim"},
		"no encryption on the wire":  {plain + `, destination: {objectStore: {url: "http://s3.example.com/bucket"}}`, "destination.objectStore.url"},
		"the volume to be filled":    {plain + `, destination: {persistentVolumeClaim: {claimName: absent-data}}`, "name the claim that has the backup"},
		"a digest in capitals":       {plain + `, acceptSHA256: ` + strings.Repeat("A", 64), "acceptSHA256"},
		"a digest that is too short": {plain + `, acceptSHA256: abc`, "acceptSHA256"},
		"a key that is none":         {plain + `, publicKeys: {key: a, versions: [{version: 1, publicKey: x, since: "2026-11-30T01:30:00Z"}]}`, "publicKey"},
		"no version of a key":        {plain + `, publicKeys: {key: a, versions: []}`, "publicKeys.versions"},
	} {
		t.Run(name, func(t *testing.T) {
			judge(t, c.Create(t.Context(), unstructuredOf(t, namespace, "NotesRestore", "x", "{"+tc.spec+"}"), client.DryRunAll), tc.want)
		})
	}
	object := unstructuredOf(t, namespace, "NotesRestore", "fixed", "{"+plain+"}")
	if err := c.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if spec, _, _ := unstructured.NestedMap(object.Object, "spec"); len(spec) != 3 {
		t.Errorf("the API server wrote defaults into the spec: %v", spec)
	}
	patch := func(text string) error {
		return c.Patch(t.Context(), object.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	judge(t, patch(`{"spec":{"overwrite":true}}`), "create another NotesRestore")
	status := func(text string) error {
		return c.Status().Patch(t.Context(), object.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	judge(t, status(`{"status":{"deploymentID":"a"}}`), "status.deploymentID")
	judge(t, status(`{"status":{"deploymentID":"6f1c0000-0000-4000-8000-000000000001","pepper":{"entry":"pepper-abcdefghijklmnop","digest":"`+digest+`"}}}`), "")
	judge(t, status(`{"status":{"deploymentID":"6f1c0000-0000-4000-8000-000000000002"}}`), "deploymentID cannot be changed")
	judge(t, status(`{"status":{"pepper":null}}`), "pepper cannot be changed")
	if err := c.List(t.Context(), &v1alpha1.NotesRestoreList{}); err != nil {
		t.Errorf("the list is broken: %v", err)
	}
}
