// A certified OpenID Connect provider for the tests, on a free port of loopback. It says where it is, then reads its one
// client from standard input; until then there is no provider. It ends with its input. Its second argument is the path
// that it is at.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [, , modules, base = ''] = process.argv;
const { Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`).href);

let answer = (_, response) => response.writeHead(503).end();
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}${base}`);
});

const people = {
  jane: { name: 'Jane Ünder', preferred_username: 'jane', email: 'jane@example.org', email_verified: true, groups: ['staff'], realm_access: { roles: ['wiki'] } },
};

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
lines.on('line', (line) => {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}${base}`, {
    acrValues: ['phr'],
    clients: [JSON.parse(line)],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username', 'groups', 'realm_access'],
      email: ['email', 'email_verified'],
    },
    conformIdTokenClaims: false,
    cookies: { keys: ['a key for tests'] },
    features: { devInteractions: { enabled: true } },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: `sub-of-${id}`, ...people[id] }) }),
    pkce: { required: () => true },
    ttl: { AccessToken: 300, AuthorizationCode: 60, Grant: 3600, IdToken: 300, Interaction: 600, Session: 3600 },
  });
  // Who logs in as `jane+key` is jane, and showed it with a key: a login of the kind `phr`.
  const finish = provider.interactionFinished.bind(provider);
  provider.interactionFinished = (request, response, result, options) => {
    const [accountId, key] = result.login?.accountId.split('+') ?? [];
    const login = accountId && { login: { accountId, acr: key && 'phr' } };
    return finish(request, response, { ...result, ...login }, options);
  };
  const callback = provider.callback();
  answer = (request, response) => {
    request.originalUrl = request.url;
    request.url = request.url.slice(base.length) || '/';
    callback(request, response);
  };
});
