//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/hack/testenv"
)

// testLostCluster follows docs/lost-cluster.md: a second API server with the same Vault and the
// same PostgreSQL reads a note of the first one. The first cluster still runs, and changes nothing
// in Vault any more.
func TestLostCluster(t *testing.T) {
	c, namespace := apart(t, apartOptions{})
	postgres := testenv.StartPostgres(t)
	database := postgres.CreateDatabase(t, namespace)
	program := testenv.BuildProgram(t, t.TempDir())

	sn := postgresNotes(namespace, "notes")
	sn.Spec.KeyRotation.RetainOldVersionFor = "24h"
	c.ready(t, sn)
	writing := c.serve(t, program, postgres, database, sn)
	note := writing.post(t, "/api/notes", http.StatusCreated, map[string]any{"content": "written under the first"})["id"].(string)
	writing.service.Kill(t)

	rebuilt := startCluster(t, c.vault)
	own := rebuilt.id
	rebuilt.id, rebuilt.authMount = c.id, c.authMount
	rebuilt.config = rebuilt.configuration(t, nil)
	rebuilt.config.ClusterID, rebuilt.config.WatchNamespaces = c.id, []string{namespace}
	if err := rebuilt.setup().Apply(t.Context(), c.vault.Client(t), io.Discard, false); err == nil || !strings.Contains(err.Error(), "--replace-api-server") {
		t.Errorf("the auth mount trusts the first API server, and vault-setup says: %v", err)
	}
	rebuilt.setUpVault(t)
	rebuilt.runOperator(t, rebuilt.config, rebuilt.writes.wrap)
	again := postgresNotes(namespace, "notes")
	again.Spec.AdoptRetainedKey = new(true) // as it was in the lost cluster's manifests
	rebuilt.namespace(t, namespace)
	if err := rebuilt.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	message := rebuilt.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	if strings.Contains(message, string(sn.UID)) || !strings.Contains(message, "operator retained list") {
		t.Error(message)
	}
	if got, want := rebuilt.retainedLine(t, namespace, "notes"), string(sn.UID)+" "+c.uid(t)+" "+stateOtherCluster; got != want {
		t.Fatalf("listed: %q, want %q", got, want)
	}
	rebuilt.change(t, again, func() { again.Spec.AdoptRetainedKeyOf = string(sn.UID) })
	rebuilt.issue(t, namespace, "notes")
	rebuilt.awaitReady(t, namespace, "notes")
	reading := rebuilt.serve(t, program, postgres, database, again)
	if got := reading.send(t, http.MethodGet, "/api/notes/"+note, http.StatusOK, nil)["content"]; got != "written under the first" {
		t.Errorf("the note reads %v", got)
	}
	reading.service.Kill(t)

	t.Run("the first cluster lives", func(t *testing.T) { testDeposed(t, c, sn) })
	t.Run("the first cluster destroys nothing", func(t *testing.T) { testShredElsewhere(t, c, sn, again, own, rebuilt.operatorToken(t)) })
	t.Run("without the lost cluster's id", func(t *testing.T) { testChangedClusterID(t, rebuilt, own) })
}

// testChangedClusterID: an operator that lost its clusterID rejects the objects that have keys.
func testChangedClusterID(t *testing.T, c *cluster, own string) {
	sn := postgresNotes("forgotten", "notes")
	sn.Spec.Suspend = new(true)
	c.namespace(t, "forgotten")
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	key := config.TransitKeyName(c.id, "forgotten", "notes")
	before := sn.DeepCopy()
	sn.Status.ObservedGeneration, sn.Status.DeploymentID = 1, string(sn.UID)
	sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{Name: key, LatestVersion: 1}
	if err := c.Status().Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.change(t, sn, func() { sn.Spec.Suspend = nil })
	without := *c.config
	without.ClusterID, without.WatchNamespaces = "", []string{"forgotten"}
	c.runOperator(t, &without, c.writes.wrap)
	message := c.awaitCondition(t, "forgotten", "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonClusterIDChanged)
	if !strings.Contains(message, key) || !strings.Contains(message, config.TransitKeyPrefix(own)) {
		t.Error(message)
	}
	if c.keyExists(t, config.TransitKeyName(own, "forgotten", "notes")) {
		t.Error("a key was created under the cluster's own id")
	}
}

// testDeposed: the object whose keys another cluster has taken over is not Ready, and neither it
// nor a rotation changes anything in Vault.
func testDeposed(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	kr := rotationOf(sn, "late")
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitRotation(t, kr, "the rotation to be held", func() string {
		waits := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
		if waits == nil || waits.Reason != v1alpha1.ReasonKeyTaken {
			return kr.Status.State
		}
		return ""
	})
	c.awaitCondition(t, sn.Namespace, "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonKeyTaken)
	if latest, minDecryption, minEncryption := c.keyVersions(t, sn); latest != "1" || minDecryption != "1" || minEncryption != "0" {
		t.Errorf("versions: latest %s, decryption %s, encryption %s", latest, minDecryption, minEncryption)
	}
}

// testShredElsewhere: the object of the first cluster is deleted with its keys. The rebuilt cluster
// uses the keys, so they are neither destroyed nor reported as retained.
func testShredElsewhere(t *testing.T, c *cluster, sn, adopting *v1alpha1.SecureNotes, rebuilt string, token *api.Client) {
	c.change(t, sn, func() { sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete })
	c.deleted(t, sn)
	uid := string(adopting.UID)
	if got, want := c.retainedLine(t, sn.Namespace, "notes"), uid+" "+rebuilt+" "+stateOtherCluster; got != want {
		t.Errorf("listed: %q, want %q", got, want)
	}
	shred := func(typed string, flags ...string) error {
		_, err := c.retained(t, typed, append([]string{"shred", sn.Namespace + "/notes", "--uid", uid}, flags...)...)
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"no cluster is named":    {shred(uid + "\n"), "--of-cluster " + rebuilt},
		"this one is named":      {shred(uid+"\n", "--of-cluster", c.uid(t)), "--of-cluster is " + c.uid(t)},
		"the other one is named": {shred("no\n", "--of-cluster", rebuilt), "the confirmation is not " + uid},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) || !strings.Contains(tc.err.Error(), "nothing was destroyed") {
			t.Errorf("%s: %v; want %q", name, tc.err, tc.want)
		}
	}
	testForgedCluster(t, c, sn.Namespace, token, uid, rebuilt)
	out, err := c.retained(t, "no\n", "shred", sn.Namespace+"/notes", "--uid", uid, "--of-cluster", clusterUnknown)
	if err == nil || !strings.Contains(out, "Only the cluster in KUBECONFIG was asked") {
		t.Errorf("%v\n%s", err, out)
	}
	if !c.keyExists(t, config.TransitKeyName(c.id, sn.Namespace, "notes")) {
		t.Error("the key that the rebuilt cluster uses is gone")
	}
}

// testForgedCluster: anyone who has the operator's Vault token can make the marker name the first
// cluster. The earlier version of the marker counts. If it is missing, the cluster is unknown.
func testForgedCluster(t *testing.T, c *cluster, namespace string, token *api.Client, uid, rebuilt string) {
	current := &corev1.Namespace{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: namespace}, current); err != nil {
		t.Fatal(err)
	}
	path := config.KVPath(c.id, namespace, "notes") + "/" + config.MarkerLeaf
	forged := c.entry(t, "secret/data/"+path)
	forged["clusterUID"], forged["namespaceUID"] = c.uid(t), string(current.UID)
	forge := func() {
		if _, err := token.Logical().Write("secret/data/"+path, map[string]any{"data": forged}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		forge      func()
		what, want string
	}{
		{forge: forge, what: "written over", want: rebuilt},
		{what: "written over until nothing is left", forge: func() {
			for range 10 { // as many versions as KV keeps
				forge()
			}
		}, want: clusterUnknown},
		{what: "created again", forge: func() {
			if _, err := token.Logical().Delete("secret/metadata/" + path); err != nil {
				t.Fatal(err)
			}
			forge()
		}, want: clusterUnknown},
	} {
		tc.forge()
		if got, want := c.retainedLine(t, namespace, "notes"), uid+" "+tc.want+" "+stateObjectGone+stateMarkerChanged; got != want {
			t.Errorf("%s: listed %q, want %q", tc.what, got, want)
		}
		_, err := c.retained(t, uid+"\n", "shred", namespace+"/notes", "--uid", uid)
		if err == nil || !strings.Contains(err.Error(), "--of-cluster "+tc.want) || !strings.Contains(err.Error(), "which may have been changed") {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// session is the session of a user, at a service that runs with the configuration from the
// operator.
type session struct {
	service *testenv.Service
	client  *http.Client
	token   string
}

// serve plays the kubelet: it runs the program of the object's pods, and logs in, as a new user if
// need be.
func (c *cluster) serve(t *testing.T, program testenv.Program, postgres *testenv.Postgres, database string, sn *v1alpha1.SecureNotes) *session {
	t.Helper()
	rendered := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ConfigMapName(sn.Name)}, rendered); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mounted := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	service, err := config.Parse([]byte(rendered.Data["api.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	certificate := testenv.NewCertificate(t, dir)
	service.Listen, service.MetricsListen = testenv.FreeAddress(t), testenv.FreeAddress(t)
	service.TLS = &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile}
	service.Database.Postgres.URIFile, service.Database.Postgres.CAFile = mounted("uri", database), postgres.CAFile
	service.Keys.Vault.CAFile = c.vault.CAFile
	service.Keys.Vault.TokenFile = mounted("token", c.token(t, sn.Namespace, operand.APIServiceAccount(sn.Name), defaultAudience))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := program.Command(ctx, "migrate", "--config", testenv.WriteConfig(t, service)).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	s := &session{service: program.StartService(t, service)}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.service.Pool, MinVersion: tls.VersionTLS13}}}
	t.Cleanup(s.client.CloseIdleConnections)
	credentials := map[string]any{"username": "alice", "password": "correct horse battery staple"}
	if sn.Status.DeploymentID == string(sn.UID) {
		s.post(t, "/api/auth/register", http.StatusCreated, credentials)
	}
	s.token = s.post(t, "/api/auth/login", http.StatusOK, credentials)["token"].(string)
	return s
}

func (s *session) post(t *testing.T, path string, want int, body map[string]any) map[string]any {
	t.Helper()
	return s.send(t, http.MethodPost, path, want, body)
}

func (s *session) send(t *testing.T, method, path string, want int, body map[string]any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.service.URL+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %v %v", method, path, response.StatusCode, want, answer, err)
	}
	return answer
}
