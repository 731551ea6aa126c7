//go:build integration

package main

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// hostile are objects that must be refused, each with words that its sentence must have.
var hostile = map[string]struct{ spec, want string }{
	"replicas with the embedded database": {`{replicas: 2, tls: {secretRef: {name: a}}}`, "set replicas to 1, or use database.postgres"},
	"replicas with embedded written out":  {`{replicas: 3, tls: {secretRef: {name: a}}, database: {embedded: {}}}`, "set replicas to 1"},
	"no certificate":                      {`{tls: {}}`, "tls needs exactly one of certManager and secretRef"},
	"two certificates":                    {`{tls: {secretRef: {name: a}, certManager: {issuerRef: {name: b}}}}`, "tls needs exactly one of certManager and secretRef"},
	"two databases":                       {`{tls: {secretRef: {name: a}}, database: {embedded: {}, postgres: {uriSecretRef: {name: a, key: b}}}}`, "database needs exactly one of postgres and embedded"},
	"a duration in days":                  {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 3d}}`, "auth.tokenTTL"},
	"a duration that overflows":           {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 99999999999999999h}}`, "auth.tokenTTL"},
	"a session that is too long":          {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 721h}}`, "tokenTTL must be 5m to 720h"},
	"a cheap password hash":               {`{tls: {secretRef: {name: a}}, auth: {bcryptCost: 4}}`, "bcryptCost"},
	"renewal longer than life":            {`{tls: {certManager: {issuerRef: {name: a}, duration: 2h, renewBefore: 3h}}}`, "renewBefore must be shorter than duration"},
	"labels of the operator":              {`{tls: {secretRef: {name: a}}, podTemplate: {labels: {app.kubernetes.io/name: x}}}`, "are the operator's: choose another prefix"},
	"a hostname that is none":             {`{tls: {secretRef: {name: a}}, hostnames: ["a b"]}`, "hostnames[0]"},
	"too many hostnames":                  {`{tls: {secretRef: {name: a}}, hostnames: [a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]}`, "hostnames"},
	"a schedule without end":              {`{tls: {secretRef: {name: a}}, keyRotation: {schedule: "` + strings.Repeat("*", 101) + `"}}`, "keyRotation.schedule"},
	"a secret's name that climbs":         {`{tls: {secretRef: {name: a}}, database: {postgres: {uriSecretRef: {name: ../x, key: uri}}}}`, "uriSecretRef.name"},
	"a proxy that is everyone":            {`{tls: {secretRef: {name: a}}, trustedProxies: [everyone]}`, "each of trustedProxies must be an address or a network"},
	"any web page":                        {`{tls: {secretRef: {name: a}}, cors: {allowedOrigins: ["*"]}}`, "cors.allowedOrigins[0]"},
	"no failed login at all":              {`{tls: {secretRef: {name: a}}, rateLimits: {failedLoginsPerMinute: 0}}`, "failedLoginsPerMinute"},
	"a size in no unit":                   {`{tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: "1"}}}}`, "storage.size"},
}

func (c *cluster) unstructured(t *testing.T, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(spec), &object); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "securenotes.dev/v1alpha1", "kind": kind,
		"metadata": map[string]any{"namespace": "hostile", "name": name}, "spec": object,
	}}
}

func testAdmission(t *testing.T, c *cluster) {
	c.namespace(t, "hostile")
	for name, tc := range hostile {
		t.Run(name, func(t *testing.T) {
			err := c.Create(t.Context(), c.unstructured(t, "SecureNotes", "x", tc.spec))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	for name, tc := range map[string]struct{ name, want string }{
		"a name that is too long":       {strings.Repeat("a", 41), "at most 40 characters"},
		"a name that begins with digit": {"1a", "start with a letter"},
		"a name with a dot":             {"a.b", "only lower-case letters"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Create(t.Context(), c.unstructured(t, "SecureNotes", tc.name, `{tls: {secretRef: {name: a}}}`))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	t.Run("changes", func(t *testing.T) { testImmutable(t, c) })
	t.Run("defaults are not written", func(t *testing.T) {
		object := c.unstructured(t, "SecureNotes", "plain", `{tls: {secretRef: {name: a}}, suspend: true}`)
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		if spec, _, _ := unstructured.NestedMap(object.Object, "spec"); len(spec) != 2 {
			t.Errorf("the API server wrote defaults into the spec: %v", spec)
		}
	})
}

func testImmutable(t *testing.T, c *cluster) {
	object := c.unstructured(t, "SecureNotes", "fixed", `{suspend: true, tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: 2Gi}}}}`)
	rotation := c.unstructured(t, "KeyRotation", "fixed", `{secureNotesRef: {name: nobody}}`)
	for _, o := range []client.Object{object, rotation} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		object      *unstructured.Unstructured
		patch, want string
	}{
		"other database": {object, `{spec: {database: {embedded: null, postgres: {uriSecretRef: {name: a, key: b}}}}}`, "create another SecureNotes and move the notes"},
		"other Vault":    {object, `{spec: {vaultConnection: other}}`, "vaultConnection cannot be changed"},
		"smaller volume": {object, `{spec: {database: {embedded: {storage: {size: 1Gi}}}}}`, "can only grow"},
		"other class":    {object, `{spec: {database: {embedded: {storage: {storageClassName: b}}}}}`, "cannot be changed"},
		"other rotation": {rotation, `{spec: {reason: Compromise}}`, "create another KeyRotation"},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := yaml.YAMLToJSON([]byte(tc.patch))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Patch(t.Context(), tc.object.DeepCopy(), client.RawPatch("application/merge-patch+json", patch))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	t.Run("compromise that rewraps", func(t *testing.T) {
		err := c.Create(t.Context(), c.unstructured(t, "KeyRotation", "x", `{secureNotesRef: {name: a}, reason: Compromise, strategy: Rewrap}`))
		if err == nil || !strings.Contains(err.Error(), "set strategy to Reencrypt") {
			t.Errorf("the refusal does not say what to do: %v", err)
		}
	})
}
