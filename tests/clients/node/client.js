// What users of the JavaScript client do: objects, patches, watches, informers, exec, logs.
// Run with KUBECONFIG set and an empty namespace; prints "ok" when all of it worked.

import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const namespace = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

const refused = (code) => (error) => error instanceof k8s.ApiException && error.code === code;

async function objects() {
  const body = { metadata: { name: 'node-settings', labels: { a: 'b' } }, data: { x: '1' } };
  const made = await core.createNamespacedConfigMap({ namespace, body });
  assert.ok(made.metadata.uid);
  assert.ok(made.metadata.creationTimestamp instanceof Date);
  await assert.rejects(core.createNamespacedConfigMap({ namespace, body }), refused(409));
  made.data.x = '2';
  const replaced = await core.replaceNamespacedConfigMap({ name: 'node-settings', namespace, body: made });
  assert.deepEqual(replaced.data, { x: '2' });
  await assert.rejects(
    core.replaceNamespacedConfigMap({ name: 'node-settings', namespace, body: made }),
    refused(409),
  );
  const patched = await core.patchNamespacedConfigMap(
    { name: 'node-settings', namespace, body: { data: { y: '3' } } },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
  );
  assert.deepEqual(patched.data, { x: '2', y: '3' });
  const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'a=b' });
  assert.deepEqual(list.items.map((one) => one.metadata.name), ['node-settings']);
  await core.deleteNamespacedConfigMap({ name: 'node-settings', namespace });
  await assert.rejects(core.readNamespacedConfigMap({ name: 'node-settings', namespace }), refused(404));
}

async function watching() {
  const list = await core.listNamespacedSecret({ namespace });
  const seen = [];
  const watch = new k8s.Watch(config);
  await new Promise((resolve, reject) => {
    const query = { resourceVersion: list.metadata.resourceVersion, timeoutSeconds: 30 };
    let controller;
    watch
      .watch(
        `/api/v1/namespaces/${namespace}/secrets`,
        query,
        (type, object) => {
          seen.push(`${type} ${object.metadata.name}`);
          if (seen.length === 2) {
            controller.abort();
            resolve();
          }
        },
        (error) => (seen.length === 2 ? resolve() : reject(error ?? new Error('the watch ended'))),
      )
      .then(async (started) => {
        controller = started;
        await core.createNamespacedSecret({ namespace, body: { metadata: { name: 'node-seen' }, stringData: { k: 'v' } } });
        await core.deleteNamespacedSecret({ name: 'node-seen', namespace });
      })
      .catch(reject);
  });
  assert.deepEqual(seen, ['ADDED node-seen', 'DELETED node-seen']);
}

/** Waits for a pod with an informer: a list, then a watch. */
function ready(name) {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const labelSelector = `app=${name}`;
  const list = () => core.listNamespacedPod({ namespace, labelSelector });
  const informer = k8s.makeInformer(config, path, list, labelSelector);
  return new Promise((resolve, reject) => {
    let found = false;
    const look = (pod) => {
      if (!found && pod.status?.containerStatuses?.[0]?.ready) {
        found = true;
        informer.stop().then(resolve, reject);
      }
    };
    informer.on('add', look);
    informer.on('update', look);
    // The end that was asked for comes as one.
    informer.on('error', (error) => found || reject(error));
    informer.start().catch(reject);
  });
}

const collect = () => {
  const parts = [];
  const stream = new Writable({
    write(part, _encoding, done) {
      parts.push(part);
      done();
    },
  });
  return { stream, text: () => Buffer.concat(parts).toString() };
};

async function streams() {
  const command = ['sh', '-c', 'echo begun; exec sleep 1000'];
  const spec = { terminationGracePeriodSeconds: 1, containers: [{ name: 'main', image: 'busybox:1.35', command }] };
  await core.createNamespacedPod({ namespace, body: { metadata: { name: 'node-streams', labels: { app: 'node-streams' } }, spec } });
  await ready('node-streams');
  assert.equal(await core.readNamespacedPodLog({ name: 'node-streams', namespace }), 'begun\n');
  const [out, err, input] = [collect(), collect(), new PassThrough()];
  const exec = new k8s.Exec(config);
  const script = 'read line; echo got $line; echo bad >&2; exit 3';
  const status = await new Promise((resolve, reject) => {
    exec
      .exec(namespace, 'node-streams', 'main', ['sh', '-c', script], out.stream, err.stream, input, false, resolve)
      .then(() => input.write('this\n'))
      .catch(reject);
  });
  assert.equal(status.status, 'Failure');
  assert.equal(status.details.causes.find((cause) => cause.reason === 'ExitCode').message, '3');
  assert.deepEqual([out.text(), err.text()], ['got this\n', 'bad\n']);
  await core.deleteNamespacedPod({ name: 'node-streams', namespace, gracePeriodSeconds: 0 });
}

/** Any kind by its YAML, as `kubectl apply` has it. */
async function anyKind() {
  const client = k8s.KubernetesObjectApi.makeApiClient(config);
  const [object] = k8s.loadAllYaml(`apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: node-web, namespace: ${namespace}}\nspec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n`);
  const made = await client.create(object);
  assert.equal(made.spec.replicas, 0);
  const read = await client.read({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'node-web', namespace } });
  assert.equal(read.metadata.uid, made.metadata.uid);
  await client.delete(object);
}

await objects();
await watching();
await streams();
await anyKind();
console.log('ok');
process.exit(0);
