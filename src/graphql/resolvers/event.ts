import { formatPlace } from '../../events/place.ts';
import { parseCursor, toConnection, toCursor, toPageRequest } from '../connections.ts';
import { requirePrincipal } from '../context.ts';
import type { EventResolvers, QueryResolvers, SubscriptionResolvers } from '../generated/types.ts';
import { optionalGlobalId } from '../ids.ts';
import { mapStream } from '../stream.ts';

export const Event = {
  uuid: ({ id }) => id,
  cursor: ({ place }) => toCursor(formatPlace(place)),
  subject: ({ subjectId }) => subjectId,
} satisfies EventResolvers;

export const eventQueries = {
  events: async (_root, args, context) => {
    const caller = requirePrincipal(context);
    const request = toPageRequest(args);
    const query = {
      tenantId: optionalGlobalId('Tenant', args.tenant, 'tenant'),
      kinds: args.kinds ?? null,
    };
    const page = await context.services.events.list(caller, query, request);
    return toConnection(page, request, ({ place }) => formatPlace(place));
  },
} satisfies QueryResolvers;

export const eventSubscriptions = {
  events: {
    subscribe: async (_root, { after, kinds }, context) => {
      const caller = requirePrincipal(context);
      const query = { after: after == null ? null : parseCursor(after), kinds: kinds ?? null };
      const events = await context.services.events.follow(caller, query);
      return mapStream(events, (event) => ({ events: event }));
    },
  },
} satisfies SubscriptionResolvers;
