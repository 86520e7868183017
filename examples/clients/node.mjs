// Runs the vendor's Node SDK: `node.mjs china|international`. Requests and responses are as in python.py. NODE_FOLDER has the
// packages.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const load = createRequire(`${process.env.NODE_FOLDER}/`);
const endpoint = process.env.ENDPOINT;
const versions = { cvm: "v20170312", sts: "v20180813", organization: "v20210331" };

function china({ service, action, parameters, secret_id: secretId, secret_key: secretKey, token, region }) {
    const { Client } = load(`tencentcloud-sdk-nodejs-${service}`)[service][versions[service]];
    const credential = { secretId, secretKey, token: token || undefined };
    const httpProfile = endpoint ? { protocol: "http://", endpoint } : {};
    return new Client({ credential, region, profile: { httpProfile } })[action](parameters);
}

function international({ service, action, parameters, secret_id, secret_key, token, region }) {
    const { common, [service]: product } = load("tencentcloud-sdk-nodejs-intl-en");
    const { Client, Models } = product[versions[service]];
    const http = new common.HttpProfile();
    if (endpoint) {
        Object.assign(http, { protocol: "http://", endpoint });
    }
    const credential = new common.Credential(secret_id, secret_key, token || undefined);
    const client = new Client(credential, region, new common.ClientProfile("TC3-HMAC-SHA256", http));
    const request = new Models[`${action}Request`]();
    request.deserialize(parameters);
    return new Promise((resolve, reject) => {
        client[action](request, (error, response) => (error ? reject(error) : resolve(response)));
    });
}

const call = { china, international }[process.argv[2]];
for await (const line of createInterface({ input: process.stdin })) {
    const refused = (error) => ({
        Error: { Code: error.code ?? "", Message: error.message ?? String(error) },
        RequestId: error.requestId ?? "",
    });
    console.log(JSON.stringify(await call(JSON.parse(line)).catch(refused)));
}
