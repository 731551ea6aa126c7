package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// TestStanding: keys of another cluster are not reported as retained, because that cluster may use
// them.
func TestStanding(t *testing.T) {
	const own, other = "own", "rebuilt"
	object := func(uid types.UID, deploymentID string) client.Object {
		return &v1alpha1.SecureNotes{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "notes", UID: uid},
			Status:     v1alpha1.SecureNotesStatus{DeploymentID: deploymentID},
		}
	}
	keyed := func(name string) client.Object {
		sn := object("new", "uid").(*v1alpha1.SecureNotes)
		sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{Name: name}
		return sn
	}
	changed := func(m config.Marker, clusters ...string) vaultadmin.Kept {
		return vaultadmin.Kept{Marker: m, Changed: true, Clusters: clusters}
	}
	marker := func(namespace, cluster string) config.Marker {
		return config.Marker{UID: "uid", NamespaceUID: namespace, ClusterUID: cluster, DeploymentID: "uid"}
	}
	for name, tc := range map[string]struct {
		kept      any       // vaultadmin.Kept or its marker
		namespace types.UID // empty: it is gone
		object    client.Object
		want      standing
	}{
		"in use":                                    {marker("ns", own), "ns", object("uid", "uid"), standing{clusterThis, stateInUse}},
		"its object is gone":                        {marker("ns", own), "ns", nil, standing{clusterThis, stateObjectGone}},
		"its object was recreated":                  {marker("ns", own), "ns", object("new", ""), standing{clusterThis, stateObjectRecreated}},
		"its namespace is gone":                     {marker("ns", own), "", nil, standing{clusterThis, stateNamespaceGone}},
		"its namespace was recreated":               {marker("ns", own), "ns-2", nil, standing{clusterThis, stateNamespaceRecreated}},
		"another cluster, without an object":        {marker("ns", other), "ns-2", nil, standing{other, stateOtherCluster}},
		"another cluster, without the namespace":    {marker("ns", other), "", nil, standing{other, stateOtherCluster}},
		"another cluster, with a new object":        {marker("ns", other), "ns-2", object("new", ""), standing{other, stateOtherCluster}},
		"another cluster, with an object with keys": {marker("ns", other), "ns-2", object("new", "uid"), standing{other, stateMarkerDiffers}},
		"another cluster, says a forged marker":     {marker("ns", other), "ns", object("uid", "uid"), standing{other, stateInUse}},
		"earlier release, of this namespace":        {marker("ns", ""), "ns", nil, standing{clusterThis, stateObjectGone}},
		"earlier release, of another namespace":     {marker("ns", ""), "ns-2", nil, standing{clusterUnknown, stateNamespaceRecreated}},
		"earlier release, namespace gone":           {marker("ns", ""), "", nil, standing{clusterUnknown, stateNamespaceGone}},
		"earlier release, without a namespace":      {marker("", ""), "ns", nil, standing{clusterUnknown, stateObjectGone}},
		"no readable marker":                        {config.Marker{}, "ns", nil, standing{clusterUnknown, stateNoMarker}},
		"no marker":                                 {vaultadmin.Kept{NoMarker: true}, "ns", nil, standing{clusterUnknown, stateKeyOnly}},
		"no marker, in use":                         {vaultadmin.Kept{NoMarker: true}, "ns", object("new", "uid"), standing{clusterUnknown, stateMarkerDiffers}},
		"changed to this cluster":                   {changed(marker("ns", own), own, other), "ns", nil, standing{other, stateObjectGone + stateMarkerChanged}},
		"changed to no cluster":                     {changed(marker("ns", ""), other), "ns", nil, standing{other, stateObjectGone + stateMarkerChanged}},
		"changed to another uid of this cluster":    {changed(marker("ns", own), own, own), "", nil, standing{clusterUnknown, stateNamespaceGone + stateMarkerChanged}},
		"changed from this cluster to another":      {changed(marker("ns", other), other, own), "ns", nil, standing{other, stateOtherCluster}},
		"changed, in use":                           {changed(marker("ns", own), own, other), "ns", object("uid", "uid"), standing{clusterThis, stateInUse}},
		"an object with the key":                    {marker("ns", own), "ns", keyed("sn-id.shop.notes"), standing{clusterThis, stateMarkerDiffers}},
		"an object with a key under another id":     {marker("ns", own), "ns", keyed("sn-id-2.shop.notes"), standing{clusterThis, stateObjectRecreated}},
	} {
		t.Run(name, func(t *testing.T) {
			scheme, err := newScheme()
			if err != nil {
				t.Fatal(err)
			}
			builder := fake.NewClientBuilder().WithScheme(scheme)
			if tc.namespace != "" {
				builder.WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: tc.namespace}})
			}
			if tc.object != nil {
				builder.WithObjects(tc.object)
			}
			r := &retained{cluster: builder.Build(), own: own, archive: vaultadmin.Archive{ClusterID: "id"}}
			kept, ok := tc.kept.(vaultadmin.Kept)
			if !ok {
				kept.Marker = tc.kept.(config.Marker)
			}
			kept.Namespace, kept.Name = "shop", "notes"
			got, err := r.standing(t.Context(), kept)
			if err != nil || got != tc.want {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

// TestOfCluster: keys that may belong to another cluster are destroyed only if the command names
// it.
func TestOfCluster(t *testing.T) {
	for name, tc := range map[string]struct {
		flag, of string
		want     string // empty: it is not refused
	}{
		"this cluster":                      {"", clusterThis, ""},
		"another cluster":                   {"", "rebuilt", "--of-cluster rebuilt"},
		"another cluster, named":            {"rebuilt", "rebuilt", ""},
		"another cluster, another named":    {"lost", "rebuilt", "--of-cluster is lost"},
		"another cluster, named as this":    {clusterThis, "rebuilt", "--of-cluster is this"},
		"this cluster, another named":       {"rebuilt", clusterThis, "--of-cluster is rebuilt"},
		"earlier release":                   {"", clusterUnknown, "--of-cluster unknown"},
		"earlier release, named":            {clusterUnknown, clusterUnknown, ""},
		"another cluster, named as unknown": {clusterUnknown, "rebuilt", "--of-cluster is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			err := shredRequest{namespace: "shop", name: "notes", uid: "uid", ofCluster: tc.flag}.checkCluster(standing{cluster: tc.of}, "id")
			if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "nothing was destroyed")) {
				t.Errorf("%v; want %q", err, tc.want)
			}
		})
	}
}

// TestPlain: a name that somebody planted in Vault neither fills other columns of the list, nor
// moves the cursor of a terminal.
func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"shop": "shop", "": `""`, "notes   uid  this": `"notes   uid  this"`, "a\tb": `"a\tb"`, "\x1b[8m": `"\x1b[8m"`, "a\u00a0b": `"a\u00a0b"`, `"a"`: `"\"a\""`,
	} {
		if got := plain(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestUnreadableMarker: a marker without a readable version does not keep its keys in Vault
// forever: every rejection names the command that removes it. A readable marker is not removed.
func TestUnreadableMarker(t *testing.T) {
	archive := vaultadmin.Archive{ClusterID: "prod", TransitMount: "transit", KVMount: "team/kv"}
	const remove = "vault kv metadata delete -mount=team/kv securenotes/prod/shop/notes/marker"
	readable, damaged := vaultadmin.Kept{Marker: config.Marker{UID: "uid"}}, vaultadmin.Kept{}
	for name, tc := range map[string]struct {
		kept          vaultadmin.Kept
		uid           string
		withoutMarker bool
		want          []string
		not           string
	}{
		"damaged, by uid":             {kept: damaged, uid: "uid", want: []string{"cannot be read", "earlier version", remove, "--without-marker"}},
		"damaged, without a marker":   {kept: damaged, withoutMarker: true, want: []string{"cannot be read", "earlier version", remove, "--without-marker"}},
		"readable, without a marker":  {kept: readable, withoutMarker: true, want: []string{"--uid"}, not: "vault kv"},
		"readable, by another uid":    {kept: readable, uid: "other", want: []string{"do not belong"}, not: "vault kv"},
		"readable, by uid":            {kept: readable, uid: "uid"},
		"no marker, without a marker": {kept: vaultadmin.Kept{NoMarker: true}, withoutMarker: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := shredRequest{namespace: "shop", name: "notes", uid: tc.uid, withoutMarker: tc.withoutMarker}.checkMarker(tc.kept, archive)
			if (err == nil) != (tc.want == nil) {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %q", err, want)
				}
			}
			if err != nil && tc.not != "" && strings.Contains(err.Error(), tc.not) {
				t.Errorf("%v names %q", err, tc.not)
			}
		})
	}
}
