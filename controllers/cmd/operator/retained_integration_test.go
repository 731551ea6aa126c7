//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// retained runs the command as Vault's administrator, with this input, and returns its output.
func (c *cluster) retained(t *testing.T, typed string, args ...string) (printed string, err error) {
	t.Helper()
	return c.administrator(t, typed, append([]string{"retained", "--cluster-id", c.id}, args...)...)
}

// administrator runs a command of the operator's program with the environment of Vault's
// administrator.
func (c *cluster) administrator(t *testing.T, typed string, args ...string) (printed string, err error) {
	t.Helper()
	// Its environment must not be that of the services and operators that the test starts.
	t.Run(args[0], func(t *testing.T) { printed, err = c.runAsAdministrator(t, typed, args...) })
	return printed, err
}

func (c *cluster) runAsAdministrator(t *testing.T, typed string, args ...string) (string, error) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: c.rest.Host, CertificateAuthorityData: c.rest.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"c": {ClientCertificateData: c.rest.CertData, ClientKeyData: c.rest.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "c"}},
		CurrentContext: "c",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	for variable, value := range map[string]string{
		"KUBECONFIG": file, "VAULT_ADDR": c.vault.Address, "VAULT_CACERT": c.vault.CAFile, "VAULT_TOKEN": c.vault.RootToken,
	} {
		t.Setenv(variable, value)
	}
	var out bytes.Buffer
	root := command()
	root.SetArgs(args)
	root.SetIn(strings.NewReader(typed))
	root.SetOut(&out)
	root.SetErr(&out)
	err = root.ExecuteContext(t.Context())
	return out.String(), err
}

// retainedLine returns the line of a name in `operator retained list`, with single spaces.
func (c *cluster) retainedLine(t *testing.T, namespace, name string) string {
	t.Helper()
	out, err := c.retained(t, "", "list")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == namespace && fields[1] == name {
			return strings.Join(fields[2:], " ")
		}
	}
	return ""
}

func (c *cluster) change(t *testing.T, sn *v1alpha1.SecureNotes, change func()) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	change()
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// recreate deletes a namespace and creates another one of its name. No namespace controller runs
// here.
func (c *cluster) recreate(t *testing.T, name string) {
	t.Helper()
	namespaces := c.kube.CoreV1().Namespaces()
	if err := namespaces.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	going, err := namespaces.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	going.Spec.Finalizers = nil
	if _, err := namespaces.Finalize(t.Context(), going, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "namespace "+name+" to be gone", func() string {
		err := c.Get(context.Background(), client.ObjectKey{Name: name}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			return ""
		}
		return "it still exists"
	})
	c.namespace(t, name)
}

// uid returns the UID of the cluster.
func (c *cluster) uid(t *testing.T) string {
	t.Helper()
	uid, err := clusterUID(t.Context(), c.Client)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// asEarlierMarker rewrites the marker as in an earlier release, and waits until the operator has
// added the missing fields.
func (c *cluster) asEarlierMarker(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	kv, path := c.vault.Client(t).KVv2(defaultKVMount), config.KVPath(c.id, sn.Namespace, sn.Name)+"/"+config.MarkerLeaf
	if _, err := kv.Put(t.Context(), path, map[string]any{"uid": string(sn.UID), "deploymentID": sn.Status.DeploymentID}); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "7h")
	await(t, "the UIDs of namespace and cluster in the marker", func() string {
		secret, err := kv.Get(context.Background(), path)
		if err != nil {
			return err.Error()
		}
		if uid, _ := secret.Data["namespaceUID"].(string); uid == "" || secret.Data["clusterUID"] != c.uid(t) || secret.Data["deploymentID"] != sn.Status.DeploymentID {
			return fmt.Sprint(secret.Data)
		}
		return ""
	})
}

// TestRetainedKeys: a recreated namespace does not get the keys of the old one on request. It needs
// the UID of the old object, which only Vault's administrator sees.
func TestRetainedKeys(t *testing.T) {
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	first := string(sn.UID)
	c.asEarlierMarker(t, sn)
	if line := c.retainedLine(t, namespace, "notes"); line != "" {
		t.Errorf("keys in use are listed: %s", line)
	}
	c.deleted(t, sn)
	if line := c.retainedLine(t, namespace, "notes"); line != first+" this SecureNotes gone" {
		t.Errorf("listed: %q", line)
	}
	c.recreate(t, namespace)
	if line := c.retainedLine(t, namespace, "notes"); line != first+" this namespace recreated" {
		t.Errorf("listed: %q", line)
	}

	stranger := postgresNotes(namespace, "notes")
	stranger.Spec.AdoptRetainedKey = new(true)
	if err := c.Create(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	if strings.Contains(message, first) || !strings.Contains(message, "spec.adoptRetainedKeyOf") || !strings.Contains(message, "operator retained list") {
		t.Error(message)
	}
	await(t, "the metric", func() string {
		want := fmt.Sprintf("\nsecurenotes_retained_keys %d\n", c.foundRetained(t))
		if text := c.metrics(); !strings.Contains(text, want) {
			return fmt.Sprintf("no %q in %s", want, text)
		}
		return ""
	})
	c.change(t, stranger, func() { stranger.Spec.AdoptRetainedKeyOf = first })
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(stranger), stranger); err != nil || stranger.Status.DeploymentID != first {
		t.Errorf("%v; the deployment id is %s, not the first object's %s", err, stranger.Status.DeploymentID, first)
	}
	t.Run("reading one namespace", func(t *testing.T) { testNamespaceRight(t, c, namespace) })
	t.Run("shred", func(t *testing.T) { testShred(t, c, stranger) })
}

// foundRetained counts the objects of all tests that found keys of another one, at least one.
func (c *cluster) foundRetained(t *testing.T) (count int) {
	t.Helper()
	list := &v1alpha1.SecureNotesList{}
	if err := c.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, sn := range list.Items {
		if found := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionVaultReady); found != nil && found.Reason == v1alpha1.ReasonKeyRetained {
			count++
		}
	}
	if count == 0 {
		t.Error("no object has found keys of another one")
	}
	return count
}

// testNamespaceRight: with watchNamespaces the chart grants the right to read a namespace in a
// separate Role, which suffices for this namespace and grants no other.
func testNamespaceRight(t *testing.T, c *cluster, namespace string) {
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reads-namespace"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reads-namespace"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "narrow"}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	configuration := rest.CopyConfig(c.rest)
	configuration.Impersonate = rest.ImpersonationConfig{UserName: "narrow", Groups: []string{"system:authenticated"}}
	narrow, err := kubernetes.NewForConfig(configuration)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the right to read the namespace", func() string {
		_, err := narrow.CoreV1().Namespaces().Get(context.Background(), namespace, metav1.GetOptions{})
		return text(err)
	})
	if _, err := narrow.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("another namespace: %v", err)
	}
}

// testShred: keys are destroyed only if no object uses them, for the UID that they have, and after
// a confirmation.
func testShred(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	key, uid := config.TransitKeyName(c.id, sn.Namespace, sn.Name), string(sn.UID)
	shred := func(uid, confirmation string, flags ...string) error {
		_, err := c.retained(t, confirmation, append([]string{"shred", sn.Namespace + "/" + sn.Name, "--uid", uid}, flags...)...)
		return err
	}
	if err := shred(uid, uid+"\n"); err == nil || !strings.Contains(err.Error(), "uses these keys") {
		t.Errorf("keys in use: %v", err)
	}
	// Anyone who has the operator's Vault token can write to markers, and plant others.
	marker := c.vault.Client(t).KVv2("secret")
	path := config.KVPath(c.id, sn.Namespace, sn.Name) + "/" + config.MarkerLeaf
	before, err := marker.Get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	forged := maps.Clone(before.Data)
	const forgedUID = "0b1d0000-0000-4000-8000-000000000001"
	forged["uid"], forged["namespaceUID"] = forgedUID, forgedUID
	if _, err := marker.Put(t.Context(), path, forged); err != nil {
		t.Fatal(err)
	}
	escape := map[string]any{"uid": "\x1b[8m\nshop notes forged", "deploymentID": "d"}
	for _, name := range []string{"a%2fb", "escape"} {
		if _, err := marker.Put(t.Context(), config.KVRoot(c.id)+"/evil/"+name+"/"+config.MarkerLeaf, escape); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := marker.DeleteMetadata(context.Background(), config.KVRoot(c.id)+"/evil/"+name+"/"+config.MarkerLeaf); err != nil {
				t.Error(err)
			}
		})
	}
	if line := c.retainedLine(t, "evil", "escape"); line != "- unknown "+stateNoMarker {
		t.Errorf("listed: %q", line)
	}
	if line := c.retainedLine(t, sn.Namespace, sn.Name); line != forgedUID+" this in use, but the marker names another" {
		t.Errorf("listed: %q", line)
	}
	if err := shred(forgedUID, forgedUID+"\n"); err == nil || !strings.Contains(err.Error(), "uses these keys") || !c.keyExists(t, key) {
		t.Errorf("keys in use, under a forged marker: %v", err)
	}
	if _, err := marker.Put(t.Context(), path, before.Data); err != nil {
		t.Fatal(err)
	}
	c.deleted(t, sn)
	if got, want := c.retainedLine(t, sn.Namespace, sn.Name), uid+" unknown "+stateObjectGone+stateMarkerChanged; got != want {
		t.Errorf("listed: %q, want %q", got, want)
	}
	if err := shred(uid, uid+"\n"); err == nil || !strings.Contains(err.Error(), "--of-cluster unknown") {
		t.Errorf("under a marker that was changed: %v", err)
	}
	if err := shred(uid, "yes\n", "--of-cluster", clusterUnknown); err == nil || !strings.Contains(err.Error(), "nothing was destroyed") {
		t.Errorf("without confirmation: %v", err)
	}
	if err := shred("other", "other\n"); err == nil || !strings.Contains(err.Error(), "operator retained list") {
		t.Errorf("of another UID: %v", err)
	}
	if err := c.vault.Client(t).Sys().Mount("transit2", &api.MountInput{Type: "transit"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.vault.Client(t).Sys().Unmount("transit2"); err != nil {
			t.Error(err)
		}
	})
	if err := shred(uid, uid+"\n", "--of-cluster", clusterUnknown, "--transit-mount", "transit2"); err == nil || !strings.Contains(err.Error(), "--transit-mount") {
		t.Errorf("a mount that does not have the key: %v", err)
	}
	for _, flags := range [][]string{{"--transit-mount", "none"}, {"--kv-mount", "none"}, {"--kv-mount", "transit"}, {"--transit-mount", "secret"}, {"--cluster-id", "typo"}} {
		if err := shred(uid, uid+"\n", flags...); err == nil || !strings.Contains(err.Error(), "name the mount") && !strings.Contains(err.Error(), "is missing") {
			t.Errorf("shred %v: %v", flags, err)
		}
		if out, err := c.retained(t, "", append([]string{"list"}, flags...)...); err == nil || !strings.Contains(err.Error(), flags[0]) {
			t.Errorf("list %v: %q, %v", flags, out, err)
		}
	}
	if kept, err := marker.Get(t.Context(), path); err != nil || kept.Data["uid"] != uid {
		t.Errorf("after a mount that does not exist: %v, %v", kept, err)
	}
	if !c.keyExists(t, key) {
		t.Fatal("the key is gone")
	}
	if err := shred(uid, uid+"\n", "--of-cluster", clusterUnknown); err != nil {
		t.Fatal(err)
	}
	secret, err := c.vault.Client(t).Logical().List("secret/metadata/" + config.KVPath(c.id, sn.Namespace, sn.Name))
	if err != nil || secret != nil || c.keyExists(t, key) || c.keyExists(t, config.AuditKeyName(c.id, sn.Namespace, sn.Name)) ||
		c.keyExists(t, config.BackupKeyName(c.id, sn.Namespace, sn.Name)) {
		t.Errorf("shred left something: %v %v", secret, err)
	}
	t.Run("without a marker", func(t *testing.T) { testShredWithoutMarker(t, c, sn.Namespace) })
	t.Run("interrupted", func(t *testing.T) { testShredInterrupted(t, c, sn.Namespace) })
}

// testShredWithoutMarker: a master key without marker is listed, and destroyed only if the command
// says so. Keys of a cluster whose id begins alike are not listed.
func testShredWithoutMarker(t *testing.T, c *cluster, namespace string) {
	root := c.vault.Client(t).Logical()
	for _, id := range []string{c.id, c.id + "-eu"} {
		if _, err := root.Write("transit/keys/"+config.TransitKeyName(id, namespace, "left.over"), map[string]any{"type": "aes256-gcm96", "derived": true}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.retained(t, "", "list")
	if err != nil || strings.Count(out, "left.over") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	if line := c.retainedLine(t, namespace, "left.over"); line != "- unknown "+stateKeyOnly {
		t.Errorf("listed: %q", line)
	}
	shred := func(typed string, flags ...string) error {
		_, err := c.retained(t, typed, append([]string{"shred", namespace + "/left.over"}, flags...)...)
		return err
	}
	const uid = "0b1d0000-0000-4000-8000-000000000002"
	for _, err := range []error{
		shred(uid+"\n", "--uid", uid), shred("yes\n", "--without-marker"), shred(uid + "\n"), shred(uid+"\n", "--uid", uid, "--without-marker"),
	} {
		if err == nil || !strings.Contains(err.Error(), "--without-marker") && !strings.Contains(err.Error(), "nothing was destroyed") {
			t.Error(err)
		}
	}
	if !c.keyExists(t, config.TransitKeyName(c.id, namespace, "left.over")) {
		t.Fatal("the key is gone")
	}
	if err := shred(namespace+"/left.over\n", "--without-marker"); err != nil || c.keyExists(t, config.TransitKeyName(c.id, namespace, "left.over")) {
		t.Errorf("%v, or the key still exists", err)
	}
	if !c.keyExists(t, config.TransitKeyName(c.id+"-eu", namespace, "left.over")) {
		t.Error("the key of another cluster is gone")
	}
}

// testShredInterrupted: without a master key, only an interrupted shred can be continued. A
// readable marker does not count as missing.
func testShredInterrupted(t *testing.T, c *cluster, namespace string) {
	const uid = "0b1d0000-0000-4000-8000-000000000003"
	kv, path := c.vault.Client(t).KVv2("secret"), config.KVPath(c.id, namespace, "half")+"/"+config.MarkerLeaf
	if _, err := kv.Put(t.Context(), path, map[string]any{"uid": uid, "deploymentID": uid}); err != nil {
		t.Fatal(err)
	}
	shred := func(typed string, flags ...string) (string, error) {
		return c.retained(t, typed, append([]string{"shred", namespace + "/half"}, flags...)...)
	}
	if _, err := shred(namespace+"/half\n", "--without-marker"); err == nil || !strings.Contains(err.Error(), "has a marker") {
		t.Errorf("as if there were no marker: %v", err)
	}
	if _, err := shred(uid+"\n", "--uid", uid, "--of-cluster", clusterUnknown); err == nil || !strings.Contains(err.Error(), "no shred there was interrupted") {
		t.Errorf("without a master key: %v", err)
	}
	root := c.vault.Client(t).Logical()
	begun := map[string]any{"custom_metadata": map[string]any{"securenotes-shredding": "transit"}}
	if _, err := c.operatorToken(t).Logical().Write("secret/metadata/"+path, begun); err == nil {
		t.Error("the operator's token can say that a shred was interrupted")
	}
	if _, err := root.Write("secret/metadata/"+path, begun); err != nil {
		t.Fatal(err)
	}
	if _, err := shred(uid+"\n", "--uid", uid, "--of-cluster", clusterUnknown, "--transit-mount", "transit2"); err == nil {
		t.Error("in another mount than the interrupted one")
	}
	out, err := shred(uid+"\n", "--uid", uid, "--of-cluster", clusterUnknown)
	if secret, errRead := root.Read("secret/metadata/" + path); err != nil || errRead != nil || secret != nil || !strings.Contains(out, "Destroyed: the mounts transit and secret") {
		t.Errorf("%v, %v; left is %v\n%s", err, errRead, secret, out)
	}
}
