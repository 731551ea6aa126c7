package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecureNotes is a running HTTPS notes service: its Deployment, certificate, configuration, and its
// master key in Vault.
//
// Whoever may create Pods in the namespace, or edit this object, can read its notes: the namespace
// is the boundary of trust.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:path=securenotes,singular=securenotes,shortName=sn,categories=all
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Key version",type=integer,JSONPath=`.status.masterKey.latestVersion`
// +kubebuilder:printcolumn:name="Next rotation",type=string,format=date-time,JSONPath=`.status.masterKey.nextRotationTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be at most 40 characters, start with a letter, and have only lower-case letters, digits and dashes: the names of the service's own objects are made from it"
// +kubebuilder:validation:XValidation:rule="quantity((has(self.spec.database) && has(self.spec.database.embedded) && has(self.spec.database.embedded.storage) && has(self.spec.database.embedded.storage.size) ? self.spec.database.embedded.storage.size : '1Gi')).compareTo(quantity((has(oldSelf.spec.database) && has(oldSelf.spec.database.embedded) && has(oldSelf.spec.database.embedded.storage) && has(oldSelf.spec.database.embedded.storage.size) ? oldSelf.spec.database.embedded.storage.size : '1Gi'))) >= 0 || quantity((has(self.spec.database) && has(self.spec.database.embedded) && has(self.spec.database.embedded.storage) && has(self.spec.database.embedded.storage.size) ? self.spec.database.embedded.storage.size : '1Gi')).compareTo(quantity((has(self.status) && has(self.status.volumeSize) ? self.status.volumeSize : '0'))) >= 0",message="database.embedded.storage.size can only grow (1Gi when unset), because a volume cannot shrink: choose at least the size of the volume, which status.volumeSize says"
type SecureNotes struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +required
	Spec SecureNotesSpec `json:"spec,omitzero"`

	// status is what the operator last saw.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status SecureNotesStatus `json:"status,omitempty,omitzero"`
}

// SecureNotesSpec is what is wanted.
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.postgres)) || !has(self.replicas) || self.replicas == 1",message="replicas must be 1 with the embedded database (database.embedded, or database unset), which only one process may open: set replicas to 1, or use database.postgres"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimits) || !has(self.rateLimits.memory) || (has(self.replicas) ? self.replicas == 1 : !(has(self.database) && has(self.database.postgres)))",message="rateLimits.memory is of one process: set replicas to 1, or count in the database (rateLimits.memory unset) or in redis"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.postgres)) == (has(oldSelf.database) && has(oldSelf.database.postgres))",message="database cannot change between postgres and embedded, because the notes would stay behind in the old one: create another SecureNotes and move the notes through the API"
// +kubebuilder:validation:XValidation:rule="(has(self.vaultConnection) ? self.vaultConnection : 'default') == (has(oldSelf.vaultConnection) ? oldSelf.vaultConnection : 'default')",message="vaultConnection cannot be changed, because the master key cannot leave its Vault: create another SecureNotes and move the notes through the API"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.embedded) && has(self.database.embedded.storage) && has(self.database.embedded.storage.storageClassName) ? [self.database.embedded.storage.storageClassName] : []) == (has(oldSelf.database) && has(oldSelf.database.embedded) && has(oldSelf.database.embedded.storage) && has(oldSelf.database.embedded.storage.storageClassName) ? [oldSelf.database.embedded.storage.storageClassName] : [])",message="database.embedded.storage.storageClassName cannot be changed: a volume stays in its class"
// +kubebuilder:validation:XValidation:rule="!has(self.tls.certManager) || !has(self.tls.certManager.serviceNames) || self.tls.certManager.serviceNames == 'Include' || has(self.hostnames) && size(self.hostnames) > 0",message="tls.certManager.serviceNames: Exclude leaves the certificate without a name: add one to hostnames"
// +kubebuilder:validation:XValidation:rule="!has(self.tls.certManager) || !has(self.tls.certManager.commonName) || self.tls.certManager.commonName == 'None' || has(self.hostnames) && self.hostnames.exists(h, h.size() <= 64)",message="tls.certManager.commonName: FirstHostname needs a hostname of 64 characters or fewer: add one, or leave commonName out"
type SecureNotesSpec struct {
	// replicas is how many pods serve the API. Unset: 2 with database.postgres, else 1; the
	// operator then writes the number here, because the scale subresource, and so an autoscaler,
	// needs one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// resources of each pod of the API and of the rotation Jobs. Unset: requests of 100m CPU and 64Mi
	// memory, a memory limit of 256Mi; a Job that is not urgent then requests 10m CPU, so that users go first.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	// podTemplate adds to the pods of the API and of the rotation Jobs; it is a closed list.
	// +optional
	PodTemplate *PodTemplate `json:"podTemplate,omitempty"`

	// hostnames that clients use; the certificate names them besides the Service's own names, and
	// status.url uses the first that it names. Names of Services and pods in the cluster and IP
	// addresses cannot be among them. The list has one owner: server-side apply does not merge it.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('[A-Z*]'))",message="hostnames are in lower case and without a wildcard: write each name, such as notes.example.com"
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('(^|[.])[0-9]+$'))",message="an IP address cannot be one of hostnames, because the certificate names them as DNS names: use a DNS name, or a certificate of your own in tls.secretRef"
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.contains('.') || h == 'localhost')",message="a name without a dot cannot be one of hostnames, because it may be the Service of another team: write the whole name, such as notes.example.com"
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('(^|[.])cluster[.]local$|[.](svc|pod)$|^[^.]+[.][^.]+[.](.+[.])?svc[.]|^[0-9a-f]*-[0-9a-f-]+[.][^.]+[.]pod[.]'))",message="names of Services and pods in the cluster cannot be hostnames: the certificate has this object's own names, unless tls.certManager.serviceNames excludes them, and may have no others"
	// +listType=atomic
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`

	// service that the API is reached through.
	// +optional
	Service *Service `json:"service,omitempty"`

	// tls is where the server's certificate comes from.
	// +required
	TLS TLS `json:"tls,omitzero"`

	// vaultConnection names one of the connections in the operator's configuration. Unset: default.
	// Cannot be changed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	VaultConnection string `json:"vaultConnection,omitempty"`

	// database that holds the notes. Unset: embedded, with its defaults.
	// +optional
	Database *Database `json:"database,omitempty"`

	// keyRotation of the master key. Unset: only on demand.
	// +optional
	KeyRotation *KeyRotationPolicy `json:"keyRotation,omitempty"`

	// auth of the API's users.
	// +optional
	Auth *Auth `json:"auth,omitempty"`

	// rateLimits bound failed logins, registrations and requests.
	// +optional
	RateLimits *RateLimits `json:"rateLimits,omitempty"`

	// quotas bound how many accounts there may be, and what one user may store.
	// +optional
	Quotas *Quotas `json:"quotas,omitempty"`

	// trustedProxies are the addresses or networks, such as 10.0.0.0/8, whose word for a client's
	// address is believed: in X-Forwarded-For, or in a header of the PROXY protocol. Without them
	// all clients behind a proxy share its address, and its limits. Unset: nobody's is believed.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.all(p, isIP(p) || isCIDR(p))",message="each of trustedProxies must be an address or a network such as 10.0.0.0/8"
	// +listType=set
	// +optional
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// cors says which web pages may call the API. Unset: none of another origin.
	// +optional
	CORS *CORS `json:"cors,omitempty"`

	// deletionPolicy says what becomes of the master key, the session keys, the pepper and the
	// embedded database when this object is deleted. Retain leaves them. Delete destroys them, and
	// with them every note, for good, wherever the notes are; Vault's administrator has to allow it, with
	// `operator vault-setup --allow-shred`. Unset: Retain.
	// +kubebuilder:validation:Enum=Retain;Delete
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// adoptRetainedKey lets this object take over the master key, and the embedded database, that a
	// deleted object of the same name left behind in this namespace. It is for an object that has
	// no keys yet; a namespace that was deleted and recreated is another one, see
	// adoptRetainedKeyOf. The object gets new session keys: users log in again.
	// +optional
	AdoptRetainedKey *bool `json:"adoptRetainedKey,omitempty"`

	// adoptRetainedKeyOf is the uid of a SecureNotes of the same name whose master key this object
	// takes over, from an earlier namespace of this name or from a cluster that is lost. Vault's
	// administrator reads it with "operator retained list". It works once, for an object that has
	// no keys yet.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-]+$`
	// +optional
	AdoptRetainedKeyOf string `json:"adoptRetainedKeyOf,omitempty"`

	// suspend stops the operator from changing anything of this object, deletion aside. The service
	// keeps running; rotations that have begun wait.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
}

// DeletionPolicy says what becomes of keys and data.
type DeletionPolicy string

const (
	// DeletionPolicyRetain leaves keys and data.
	DeletionPolicyRetain DeletionPolicy = "Retain"
	// DeletionPolicyDelete destroys keys and data.
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// Resources of a container.
type Resources struct {
	// requests, by resource name.
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="a resource name has at most 317 characters"
	// +optional
	Requests map[string]Quantity `json:"requests,omitempty"`

	// limits, by resource name.
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="a resource name has at most 317 characters"
	// +optional
	Limits map[string]Quantity `json:"limits,omitempty"`
}

// PodTemplate is the closed list of what a tenant may add to the pods. It has no images, commands,
// environment or volumes: those would run other code with the service's rights to its keys.
type PodTemplate struct {
	// labels added to the pods.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 63)",message="a label key has at most 317 characters and a value at most 63"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('app.kubernetes.io/') || k.startsWith('securenotes.dev/'))",message="labels under app.kubernetes.io/ and securenotes.dev/ are the operator's: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k == 'job-name' || k == 'controller-uid' || k.startsWith('batch.kubernetes.io/'))",message="the labels job-name and controller-uid, and those under batch.kubernetes.io/, are the Job controller's, which takes no Job that sets them: choose another key"
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations added to the pods.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 4096)",message="an annotation key has at most 317 characters and a value at most 4096"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('securenotes.dev/'))",message="annotations under securenotes.dev/ are the operator's: choose another prefix"
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`

	// nodeSelector of the pods.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 63)",message="a label key has at most 317 characters and a value at most 63"
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations of the pods.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity of the pods of the API. Rotation Jobs do not take it.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints of the pods of the API. Unset: the pods are spread over nodes, and
	// over zones where nodes have them, if possible. An empty list: they are not spread.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	TopologySpreadConstraints *[]corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// priorityClassName of the pods.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('system-')",message="classes that begin with system- are for the cluster's own pods, and the operator's policies refuse them: choose a class of your own"
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// imagePullSecrets of the pods.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ImagePullSecrets []LocalObjectReference `json:"imagePullSecrets,omitempty"`
}

// Service that the API is reached through.
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || (has(self.type) && self.type != 'ClusterIP')",message="externalTrafficPolicy has no effect on a Service of type ClusterIP: set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"
type Service struct {
	// type of the Service. Unset: ClusterIP.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`

	// externalTrafficPolicy says which nodes answer traffic from outside the cluster, for the types
	// NodePort and LoadBalancer. Local: only nodes with a pod of the API, which then sees the
	// client's address. Cluster: every node; the pod sees the node's address, so all clients of a
	// node share one limit of failed logins. Unset: Local.
	// +kubebuilder:validation:Enum=Local;Cluster
	// +optional
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`

	// annotations of the Service, for load balancers.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 4096)",message="an annotation key has at most 317 characters and a value at most 4096"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('securenotes.dev/'))",message="annotations under securenotes.dev/ are the operator's: choose another prefix"
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// TLS is where the server's certificate comes from.
// +kubebuilder:validation:XValidation:rule="has(self.certManager) != has(self.secretRef)",message="tls needs exactly one of certManager and secretRef"
type TLS struct {
	// certManager has cert-manager issue and renew the certificate.
	// +optional
	CertManager *CertManager `json:"certManager,omitempty"`

	// secretRef names a Secret of type kubernetes.io/tls that somebody else keeps up to date. The
	// service reads it again when it changes.
	// +optional
	SecretRef *LocalObjectReference `json:"secretRef,omitempty"`
}

// CertManager says how cert-manager issues the certificate.
// +kubebuilder:validation:XValidation:rule="duration(has(self.renewBefore) ? self.renewBefore : (has(self.duration) ? '1s' : '720h')) < duration(has(self.duration) ? self.duration : '2160h')",message="renewBefore must be shorter than duration (2160h when unset): lower renewBefore or raise duration"
type CertManager struct {
	// issuerRef names the issuer.
	// +required
	IssuerRef IssuerReference `json:"issuerRef,omitzero"`

	// duration that the certificate is valid for, 1h to 87600h. Unset: 2160h (90 days).
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="duration must be 1h to 87600h"
	// +optional
	Duration Duration `json:"duration,omitempty"`

	// renewBefore is how long before its end the certificate is renewed, at least 5m. Unset: a
	// third of duration.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('87600h')",message="renewBefore must be 5m to 87600h"
	// +optional
	RenewBefore Duration `json:"renewBefore,omitempty"`

	// serviceNames adds the Service's own names to the certificate, besides hostnames (Include), or
	// leaves them out (Exclude). They are NAME.NAMESPACE, NAME.NAMESPACE.svc and
	// NAME.NAMESPACE.svc.cluster.local; a certificate that already has NAME keeps it. Exclude is
	// for issuers that refuse such names, as ACME and many corporate authorities do. Clients in the
	// cluster then use a hostname, too. Unset: Include.
	// +optional
	ServiceNames ServiceNames `json:"serviceNames,omitempty"`

	// commonName gives the certificate a common name (FirstHostname), or none (None). Clients
	// ignore it, and some issuers require it, such as a role of Vault's PKI engine by default.
	// FirstHostname is the first of hostnames that has 64 characters or fewer. Unset: None.
	// +optional
	CommonName CommonName `json:"commonName,omitempty"`
}

// ServiceNames is Include, to have the Service's own names in a certificate, or Exclude.
// +kubebuilder:validation:Enum=Include;Exclude
type ServiceNames string

const (
	// ServiceNamesInclude has them beside the hostnames.
	ServiceNamesInclude ServiceNames = "Include"
	// ServiceNamesExclude leaves the hostnames alone.
	ServiceNamesExclude ServiceNames = "Exclude"
)

// CommonName is the common name of a certificate: None or FirstHostname.
// +kubebuilder:validation:Enum=None;FirstHostname
type CommonName string

const (
	// CommonNameNone is no common name.
	CommonNameNone CommonName = "None"
	// CommonNameFirstHostname is the first of the hostnames that is short enough.
	CommonNameFirstHostname CommonName = "FirstHostname"
)

// IssuerReference names a cert-manager issuer.
type IssuerReference struct {
	// name of the issuer.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// kind of the issuer: Issuer, of the same namespace, or ClusterIssuer. Unset: Issuer.
	// +kubebuilder:validation:Enum=Issuer;ClusterIssuer
	// +optional
	Kind string `json:"kind,omitempty"`
}

// Database that holds the notes.
// +kubebuilder:validation:XValidation:rule="has(self.postgres) != has(self.embedded)",message="database needs exactly one of postgres and embedded"
type Database struct {
	// postgres is a PostgreSQL database, version 14 or later, that somebody else runs and backs up.
	// +optional
	Postgres *Postgres `json:"postgres,omitempty"`

	// embedded is SQLite on a volume of its own, for one replica.
	// +optional
	Embedded *Embedded `json:"embedded,omitempty"`
}

// Postgres says how to reach PostgreSQL. The server's certificate is always verified, host name
// included.
type Postgres struct {
	// uriSecretRef names the Secret key with the connection URI, postgres://user:password@host/db, or
	// postgres://host/db with vaultCredentials.
	// +required
	URISecretRef SecretKeyReference `json:"uriSecretRef,omitzero"`

	// caSecretRef names the Secret key with the PEM certificates that the server's certificate must
	// chain to. Unset: the system's certificate authorities.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`

	// vaultCredentials has Vault's database secrets engine make the user and the password: each process has
	// its own, for a limited time, and a Compromise revokes them all. The engine's role is named as the
	// master key, sn-CLUSTER.NAMESPACE.NAME, and is made by the Vault administrator.
	// +optional
	VaultCredentials *VaultCredentials `json:"vaultCredentials,omitempty"`
}

// VaultCredentials has no settings: mount and role are not a tenant's to choose.
type VaultCredentials struct{}

// Embedded says where SQLite lives.
type Embedded struct {
	// storage of the volume.
	// +optional
	Storage *Storage `json:"storage,omitempty"`
}

// Storage of a volume. It must be local or block storage: SQLite is not safe on a network file
// system.
type Storage struct {
	// size of the volume, such as 5Gi. It can grow where the storage class allows it; where it does
	// not, it can be set back to the size of the volume, which status.volumeSize says. While there
	// is no volume, it can be lowered, too. Unset: 1Gi.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]*(Mi|Gi|Ti)$`
	// +optional
	Size string `json:"size,omitempty"`

	// storageClassName of the volume. Unset: the cluster's default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// KeyRotationPolicy says when and how the master key is rotated.
type KeyRotationPolicy struct {
	// schedule in Cron format, such as "0 3 1 * *", or @monthly. Times that were missed, while suspend was set
	// or the operator was away, are caught up once. Times before the operator has first seen the
	// schedule and the time zone as they are now are not missed. Unset: only on demand.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// timeZone of the schedule, a name from the IANA database. A time that its clocks leave out, when they are
	// put forward, comes right after; one that they show twice, when they are put back, comes the first time
	// only. Unset: Etc/UTC.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-+_/A-Za-z0-9]*$`
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// strategy of rotations that do not say one. Unset: Reencrypt.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`

	// retainOldVersionFor is how long the old version of the key still decrypts after a rotation, 0s
	// to 87600h: at least as far back as the database can be restored to. Unset: 720h (30 days).
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="retainOldVersionFor must be 0s to 87600h"
	// +optional
	RetainOldVersionFor Duration `json:"retainOldVersionFor,omitempty"`

	// trim has versions of the key that no longer decrypt destroyed in Vault, which nothing undoes: what they
	// wrapped, in any backup of the database, is lost. The Vault administrator has to allow it, with
	// `operator vault-setup --allow-trim`. Unset: they are kept, and the administrator can let them decrypt again.
	// +optional
	Trim *Trim `json:"trim,omitempty"`

	// suspend stops the schedule; rotations on demand still run. When it ends, times of the schedule that have
	// passed are caught up once.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// parallelism is how many pods re-encrypt at once. Unset: 1. The embedded database always has 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +optional
	Parallelism *int32 `json:"parallelism,omitempty"`

	// maxNotesPerSecond is how many notes all pods of a rotation together re-encrypt in a second at the most;
	// with Rewrap, which writes no note, how many keys. Each pod has an equal share. A change counts from the
	// next rotation or retry on. A rotation with reason: Compromise is never held back. Unset: as many as the
	// users leave time for.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxNotesPerSecond *int32 `json:"maxNotesPerSecond,omitempty"`

	// historyLimit is how many finished rotations are kept of those that the schedule or the
	// annotation made, with their Jobs. The operator deletes no rotation that a person created.
	// Unset: 5.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	HistoryLimit *int32 `json:"historyLimit,omitempty"`
}

// Trim says when versions of the master key are destroyed.
type Trim struct {
	// after is how long ago a version has stopped decrypting when it is destroyed, 0s to 87600h: at least as
	// long as any backup of the database is kept.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="after must be 0s to 87600h"
	// +required
	After Duration `json:"after,omitempty"`

	// keepFromVersion is the oldest version that a backup which is kept for longer needs: it and the newer ones
	// are not destroyed. Unset: no backup is.
	// +kubebuilder:validation:Minimum=1
	// +optional
	KeepFromVersion *int64 `json:"keepFromVersion,omitempty"`
}

// Auth of the API's users.
type Auth struct {
	// registration says who may create an account: Open, anybody; Closed, nobody. Unset: Open.
	// +kubebuilder:validation:Enum=Open;Closed
	// +optional
	Registration string `json:"registration,omitempty"`

	// tokenTTL is how long a session lasts, 5m to 720h. Unset: 1h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('720h')",message="tokenTTL must be 5m to 720h"
	// +optional
	TokenTTL Duration `json:"tokenTTL,omitempty"`

	// bcryptCost of new password hashes; each step doubles the time of a login. Unset: 12.
	// +kubebuilder:validation:Minimum=12
	// +kubebuilder:validation:Maximum=16
	// +optional
	BcryptCost *int32 `json:"bcryptCost,omitempty"`

	// minPasswordLength in characters. Unset: 8.
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=64
	// +optional
	MinPasswordLength *int32 `json:"minPasswordLength,omitempty"`
}

// RateLimits are counted by the minute and by the day.
// +kubebuilder:validation:XValidation:rule="!(has(self.memory) && has(self.redis))",message="rateLimits needs at most one of memory and redis"
type RateLimits struct {
	// failedLoginsPerMinute of one address (one /64 of IPv6), over all replicas; a username may have
	// six times as many. Unset: 5.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	FailedLoginsPerMinute *int32 `json:"failedLoginsPerMinute,omitempty"`

	// requestsPerMinute of one user, or of one address that is not signed in, at each replica. Unset:
	// 1200.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RequestsPerMinute *int32 `json:"requestsPerMinute,omitempty"`

	// registrationsPerDay is how many accounts may be created from one address (one /64 of IPv6) in a
	// day, over all replicas. Unset: 500, which lets an office behind one address register in a day.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RegistrationsPerDay *int32 `json:"registrationsPerDay,omitempty"`

	// memory counts failed logins in the service's own memory, for replicas: 1. A restart forgets them. Unset:
	// they are counted in the database, unless redis is set.
	// +optional
	Memory *MemoryStore `json:"memory,omitempty"`

	// redis counts failed logins there. While it is away nobody logs in. Unset: they are counted in the
	// database.
	// +optional
	Redis *RedisStore `json:"redis,omitempty"`
}

// Quotas bound what is stored. A lower quota deletes nothing: a user above it can read, shorten and
// delete notes, and cannot add any.
type Quotas struct {
	// accounts is how many accounts the service may have; then nobody can register. Unset: 100000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Accounts *int32 `json:"accounts,omitempty"`

	// notes is how many notes one user may have. Unset: 100000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Notes *int32 `json:"notes,omitempty"`

	// bytes is how much space the notes of one user may take, as they are stored, which is sealed:
	// 1Mi to 1Ti. Unset: 512Mi.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]*(Mi|Gi|Ti)$`
	// +kubebuilder:validation:XValidation:rule="quantity(self).compareTo(quantity('1Ti')) <= 0",message="quotas.bytes must be 1Mi to 1Ti"
	// +optional
	Bytes string `json:"bytes,omitempty"`
}

// MemoryStore has no settings.
type MemoryStore struct{}

// RedisStore says how to reach Redis, or what speaks its protocol. Connections use TLS, and the server's
// certificate is always verified, host name included.
type RedisStore struct {
	// uriSecretRef names the Secret key with the connection URI, rediss://user:password@host:6379/0.
	// +required
	URISecretRef SecretKeyReference `json:"uriSecretRef,omitzero"`

	// caSecretRef names the Secret key with the PEM certificates that the server's certificate must chain
	// to. Unset: the system's certificate authorities.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`
}

// CORS says which web pages may call the API.
type CORS struct {
	// allowedOrigins such as https://app.example.com.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^https://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$`
	// +listType=set
	// +required
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// SecureNotesList is a list of SecureNotes.
// +kubebuilder:object:root=true
type SecureNotesList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SecureNotes `json:"items"`
}
